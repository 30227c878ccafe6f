//! What is known of each PDU, for Prometheus: nobody counts it, it is looked up when somebody asks.

use super::info::PduInfo;
use super::status::LeftOff;
use crate::request::State;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::Instant;

/// What is known of these PDUs, and of the outlets that a reboot has left off (each behind its PDU,
/// which may be in no config any more).
pub(super) fn registry_of(pdus: &[PduInfo], left_off: &[LeftOff]) -> Registry {
    let mut registry = Registry::with_prefix("pdudaemon");
    let served = family::<Gauge>(
        &mut registry,
        "pdu_served",
        "Is the PDU served (1), or can its settings not work (0)",
    );
    let broken = family::<Gauge>(
        &mut registry,
        "pdu_settings_broken",
        "Can the PDU's settings in the config not work (1); it may go on with those that it had",
    );
    let waiting = family::<Gauge>(&mut registry, "queue_depth", "Requests that wait or run");
    let reachable = family::<Gauge>(
        &mut registry,
        "pdu_reachable",
        "Did the PDU answer the last time (1) or not (0)",
    );
    let stuck = family::<Gauge>(
        &mut registry,
        "pdu_stuck",
        "Is a driver call running past its deadline",
    );
    let calls = family::<Counter>(&mut registry, "driver_calls", "Driver calls");
    let errors = family::<Counter>(
        &mut registry,
        "driver_errors",
        "Driver calls that failed, by kind of error",
    );
    let on = family::<Gauge>(
        &mut registry,
        "outlet_on",
        "The outlet's last known state: on (1) or off (0)",
    );
    let dark = family::<Gauge>(
        &mut registry,
        "outlet_left_off",
        "The outlet was switched off by a reboot and is not on again",
    );
    let now = Instant::now();
    for PduInfo {
        name,
        is_served,
        broken: error,
        waiting: depth,
        report,
        ..
    } in pdus
    {
        let pdu = ("pdu", name.to_string());
        let and = |key, value: &str| vec![pdu.clone(), (key, value.to_owned())];
        let by_pdu = vec![pdu.clone()];
        served.get_or_create(&by_pdu).set((*is_served).into());
        broken.get_or_create(&by_pdu).set(error.is_some().into());
        let depth = i64::try_from(*depth).unwrap_or(i64::MAX);
        waiting.get_or_create(&by_pdu).set(depth);
        if let Some(is) = report.reachable {
            reachable.get_or_create(&by_pdu).set(is.into());
        }
        let is_stuck = report.call.is_some_and(|(_, deadline)| now > deadline);
        stuck.get_or_create(&by_pdu).set(is_stuck.into());
        calls.get_or_create(&by_pdu).inc_by(report.calls);
        for (error, count) in &report.failures {
            errors.get_or_create(&and("error", error)).inc_by(*count);
        }
        for (outlet, known) in &report.outlets {
            let is_on = match known.state {
                State::On => 1,
                State::Off => 0,
                State::Unknown(_) => continue,
            };
            on.get_or_create(&and("outlet", outlet.as_str())).set(is_on);
        }
    }
    for left in left_off {
        let (pdu, outlet) = (left.pdu.to_string(), left.outlet.to_string());
        let by_outlet = vec![("pdu", pdu), ("outlet", outlet)];
        dark.get_or_create(&by_outlet).set(1);
    }
    registry
}

/// A family of time series, told apart by labels: each a key and a value.
fn family<M>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> Family<Vec<(&'static str, String)>, M>
where
    M: Default + EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

#[cfg(test)]
mod tests {
    use super::super::status::{LastState, Report};
    use super::*;
    use crate::request::{Outlet, PduName};
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    #[test]
    fn what_is_known_of_a_pdu_is_in_the_text() {
        let outlet = |id: &str, state| {
            let (switched, at) = (None, SystemTime::now());
            (
                Outlet::new(id),
                Box::new(LastState {
                    state,
                    switched,
                    at,
                }),
            )
        };
        let report = Report {
            reachable: Some(false),
            calls: 7,
            failures: BTreeMap::from([("timeout", 2)]),
            outlets: BTreeMap::from([
                outlet("4", State::On),
                outlet("5", State::Off),
                outlet("6", State::Unknown("locked".into())),
            ]),
            ..Report::default()
        };
        let info = PduInfo {
            name: PduName::new("rack \"1\""),
            driver: String::new(),
            about: None,
            reads_back: true,
            refresh: None,
            is_served: true,
            broken: Some("it is wrong".into()),
            waiting: 3,
            report,
            outlet_count: None,
            sought: Vec::new(),
            outlets: BTreeMap::new(),
        };
        let left = LeftOff {
            pdu: PduName::new("gone"),
            outlet: Outlet::new("7"),
            why: String::new(),
        };
        let mut text = String::new();
        let registry = registry_of(&[info], &[left]);
        prometheus_client::encoding::text::encode_registry(&mut text, &registry).expect("text");
        for line in [
            r#"pdudaemon_pdu_served{pdu="rack \"1\""} 1"#,
            r#"pdudaemon_pdu_settings_broken{pdu="rack \"1\""} 1"#,
            r#"pdudaemon_queue_depth{pdu="rack \"1\""} 3"#,
            r#"pdudaemon_pdu_reachable{pdu="rack \"1\""} 0"#,
            r#"pdudaemon_pdu_stuck{pdu="rack \"1\""} 0"#,
            r#"pdudaemon_driver_calls_total{pdu="rack \"1\""} 7"#,
            r#"pdudaemon_driver_errors_total{pdu="rack \"1\"",error="timeout"} 2"#,
            r#"pdudaemon_outlet_on{pdu="rack \"1\"",outlet="4"} 1"#,
            r#"pdudaemon_outlet_on{pdu="rack \"1\"",outlet="5"} 0"#,
            r#"pdudaemon_outlet_left_off{pdu="gone",outlet="7"} 1"#,
        ] {
            let has_it = text.lines().any(|got| got == line);
            assert!(has_it, "{line} is not in\n{text}");
        }
        assert!(!text.contains(r#"outlet="6""#), "unknown is not off");
    }
}
