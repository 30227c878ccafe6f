//! What is counted, for Prometheus. Counting a request costs a few atomic additions.
//!
//! What is known of each PDU is not counted here but looked up when somebody asks.

use crate::request::{Action, FailureKind, Outcome, State, Switch};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The labels of a time series: each a key and a value.
type Labels<V, const N: usize> = [(&'static str, V); N];
/// The label of what is counted by PDU.
const PDU: &str = "pdu";

/// How the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// Lines about requests that are lost.
    pub lost_requests: u64,
    /// All other lines that are lost.
    pub lost_others: u64,
    /// What is wrong now.
    pub trouble: Option<String>,
}

/// How TLS is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// When the certificate that is served ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// What is wrong with the files of the config.
    pub trouble: Option<String>,
}

impl TlsFacts {
    /// Days until the certificate ends; negative once it is over.
    pub fn days_left(&self) -> Option<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        self.expires
            .map(|expires| (expires as f64 - now) / 86_400.0)
    }
}

/// The program's counters.
pub struct Metrics {
    /// Tells how the log is.
    log: OnceLock<Box<dyn Fn() -> LogFacts + Send + Sync>>,
    registry: Registry,
    requests: Family<Labels<&'static str, 2>, Counter>,
    latency: Family<Labels<&'static str, 1>, Histogram, fn() -> Histogram>,
    driver_calls_per_request: Counter,
    connections: Counter,
    open: Gauge,
    refused: Family<Labels<&'static str, 1>, Counter>,
    handshakes: Family<Labels<&'static str, 1>, Counter>,
    tls: Mutex<TlsFacts>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pdudaemon");
        let requests = Family::default();
        registry.register(
            "requests",
            "Requests that have ended, by action and result",
            requests.clone(),
        );
        let latency: Family<Labels<&'static str, 1>, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "request_duration_seconds",
            "From a request's arrival to its end, by action",
            latency.clone(),
        );
        let driver_calls_per_request = Counter::default();
        registry.register(
            "request_attempts",
            "Driver calls of requests that were carried out",
            driver_calls_per_request.clone(),
        );
        let connections = Counter::default();
        registry.register("connections", "Connections accepted", connections.clone());
        let open = Gauge::default();
        registry.register("connections_open", "Connections open now", open.clone());
        let refused = Family::default();
        registry.register(
            "refusals",
            "Connections and requests that were refused or let go, by reason",
            refused.clone(),
        );
        let handshakes = Family::default();
        registry.register(
            "tls_handshakes",
            "TLS handshakes that have ended: full, resumed by a ticket, or failed",
            handshakes.clone(),
        );
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "The program", Info::new([("version", version)]));
        Self {
            log: OnceLock::new(),
            registry,
            requests,
            latency,
            driver_calls_per_request,
            connections,
            open,
            refused,
            handshakes,
            tls: Mutex::default(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A request that somebody waited for has ended.
    pub fn request_ended(&self, action: Action, outcome: &Outcome, took: Duration) {
        let action = match action {
            Action::Switch(Switch::On) => "on",
            Action::Switch(Switch::Off) => "off",
            Action::Reboot => "reboot",
            Action::State => "get-status",
        };
        let result = match outcome {
            Ok(done) if matches!(done.state, Some(State::Unknown(_))) => "unknown-state",
            Ok(_) => "ok",
            Err(failure) => word(failure.kind),
        };
        let action = ("action", action);
        let ended = [action, ("result", result)];
        self.requests.get_or_create(&ended).inc();
        self.latency
            .get_or_create(&[action])
            .observe(took.as_secs_f64());
        if let Ok(done) = outcome {
            self.driver_calls_per_request
                .inc_by(u64::from(done.attempts));
        }
    }

    /// A client has connected.
    pub fn connected(&self) {
        self.connections.inc();
        self.open.inc();
    }

    /// A client's connection is over.
    pub fn disconnected(&self) {
        self.open.dec();
    }

    /// A connection or a request was refused, or a client let go.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// A TLS handshake has ended so.
    pub fn shook_hands(&self, result: &'static str) {
        self.handshakes.get_or_create(&[("result", result)]).inc();
    }

    /// How TLS is from now on.
    pub fn tell_tls(&self, facts: TlsFacts) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    /// How TLS is.
    pub fn tls(&self) -> TlsFacts {
        let facts = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        facts.clone()
    }

    /// From now on the log is watched, too. Only the first watch counts.
    pub fn watch_log(&self, watch: impl Fn() -> LogFacts + Send + Sync + 'static) {
        let _ = self.log.set(Box::new(watch));
    }

    /// How the log is.
    pub fn log(&self) -> LogFacts {
        self.log.get().map_or_else(LogFacts::default, |log| log())
    }

    /// Everything in the OpenMetrics text form, with what is known of each PDU, and the outlets
    /// that a reboot has left off (each behind its PDU, which may be in no config any more).
    pub fn text(&self, pdus: &[PduFacts<'_>], left_off: &[(&str, &str)]) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut out, &self.registry);
        let _ = text::encode_registry(&mut out, &registry_of(pdus, left_off));
        let _ = text::encode_registry(&mut out, &registry_of_log(&self.log()));
        if let Some(days) = self.tls().days_left() {
            let _ = text::encode_registry(&mut out, &registry_of_tls(days));
        }
        let _ = text::encode_eof(&mut out);
        out
    }
}

/// One word for a failure's kind.
fn word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::BadRequest => "bad-value",
        FailureKind::UnknownPdu => "unknown-pdu",
        FailureKind::UnknownAlias => "unknown-alias",
        FailureKind::BrokenSettings => "broken-settings",
        FailureKind::NoSuchOutlet => "no-such-outlet",
        FailureKind::QueueFull => "queue-full",
        FailureKind::Unreachable => "pdu-unreachable",
        FailureKind::Refused => "pdu-refused",
        FailureKind::CannotRead => "cannot-read",
        FailureKind::Stopping => "stopping",
        FailureKind::Cancelled => "cancelled",
        FailureKind::Internal => "internal",
    }
}

/// What is known of one PDU.
#[derive(Clone, Debug)]
pub struct PduFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Is it served?
    pub is_served: bool,
    /// Is something wrong with its settings in the config?
    pub is_broken: bool,
    /// Requests that wait or run.
    pub waiting: usize,
    /// Did it answer the last time?
    pub reachable: Option<bool>,
    /// Driver calls so far.
    pub calls: u64,
    /// Those that failed, by kind.
    pub failures: Vec<(&'static str, u64)>,
    /// Is a driver call running past its deadline?
    pub is_stuck: bool,
    /// Outlets with a last known state: is it on?
    pub outlets: Vec<(&'a str, bool)>,
}

fn registry_of(pdus: &[PduFacts<'_>], left_off: &[(&str, &str)]) -> Registry {
    let served = Family::<Labels<String, 1>, Gauge>::default();
    let broken = Family::<Labels<String, 1>, Gauge>::default();
    let waiting = Family::<Labels<String, 1>, Gauge>::default();
    let reachable = Family::<Labels<String, 1>, Gauge>::default();
    let stuck = Family::<Labels<String, 1>, Gauge>::default();
    let calls = Family::<Labels<String, 1>, Counter>::default();
    let errors = Family::<Labels<String, 2>, Counter>::default();
    let states = Family::<Labels<String, 2>, Gauge>::default();
    for facts in pdus {
        let pdu = (PDU, facts.name.to_owned());
        let by_pdu = [pdu.clone()];
        served.get_or_create(&by_pdu).set(facts.is_served.into());
        broken.get_or_create(&by_pdu).set(facts.is_broken.into());
        let depth = i64::try_from(facts.waiting).unwrap_or(i64::MAX);
        waiting.get_or_create(&by_pdu).set(depth);
        if let Some(is) = facts.reachable {
            reachable.get_or_create(&by_pdu).set(is.into());
        }
        stuck.get_or_create(&by_pdu).set(facts.is_stuck.into());
        calls.get_or_create(&by_pdu).inc_by(facts.calls);
        for (error, count) in &facts.failures {
            let by_error = [pdu.clone(), ("error", (*error).to_owned())];
            errors.get_or_create(&by_error).inc_by(*count);
        }
        for (outlet, is_on) in &facts.outlets {
            let by_outlet = [pdu.clone(), ("outlet", (*outlet).to_owned())];
            states.get_or_create(&by_outlet).set((*is_on).into());
        }
    }
    let dark = Family::<Labels<String, 2>, Gauge>::default();
    for (pdu, outlet) in left_off {
        let by_outlet = [(PDU, (*pdu).to_owned()), ("outlet", (*outlet).to_owned())];
        dark.get_or_create(&by_outlet).set(1);
    }
    let mut registry = Registry::with_prefix("pdudaemon");
    registry.register(
        "pdu_served",
        "Is the PDU served (1), or can its settings not work (0)",
        served,
    );
    registry.register(
        "pdu_settings_broken",
        "Can the PDU's settings in the config not work (1); it may go on with those that it had",
        broken,
    );
    registry.register("queue_depth", "Requests that wait or run", waiting);
    registry.register(
        "pdu_reachable",
        "Did the PDU answer the last time (1) or not (0)",
        reachable,
    );
    registry.register(
        "pdu_stuck",
        "Is a driver call running past its deadline",
        stuck,
    );
    registry.register("driver_calls", "Driver calls", calls);
    registry.register(
        "driver_errors",
        "Driver calls that failed, by kind of error",
        errors,
    );
    registry.register(
        "outlet_on",
        "The outlet's last known state: on (1) or off (0)",
        states,
    );
    registry.register(
        "outlet_left_off",
        "The outlet was switched off by a reboot and is not on again",
        dark,
    );
    registry
}

fn registry_of_tls(days_left: f64) -> Registry {
    let left = Gauge::<f64, AtomicU64>::default();
    left.set(days_left);
    let mut registry = Registry::with_prefix("pdudaemon");
    registry.register(
        "tls_certificate_days_left",
        "Days until the certificate ends that is served; negative once it is over",
        left,
    );
    registry
}

fn registry_of_log(facts: &LogFacts) -> Registry {
    let lost = Family::<Labels<&str, 1>, Counter>::default();
    for (kind, lines) in [
        ("request", facts.lost_requests),
        ("other", facts.lost_others),
    ] {
        lost.get_or_create(&[("kind", kind)]).inc_by(lines);
    }
    let mut registry = Registry::with_prefix("pdudaemon");
    registry.register(
        "log_lines_lost",
        "Lines that are not in the log because nobody took them, or they could not be written",
        lost,
    );
    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Done, Failure, Proof};

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::default();
        let done = Done {
            state: None,
            attempts: 2,
            proof: Proof::State,
        };
        let took = Duration::from_millis(20);
        metrics.request_ended(Action::Reboot, &Ok(done), took);
        let unknown = Done {
            state: Some(State::Unknown("locked".into())),
            attempts: 0,
            proof: Proof::State,
        };
        metrics.request_ended(Action::State, &Ok(unknown), took);
        let failure = Failure::new(FailureKind::Unreachable, "away");
        metrics.request_ended(Action::State, &Err(failure), took);
        metrics.connected();
        metrics.refused("line");
        let text = metrics.text(
            &[PduFacts {
                name: "rack \"1\"",
                is_served: true,
                is_broken: true,
                waiting: 3,
                reachable: Some(false),
                calls: 7,
                failures: vec![("timeout", 2)],
                is_stuck: false,
                outlets: vec![("4", true)],
            }],
            &[("gone", "7")],
        );
        for line in [
            r#"pdudaemon_requests_total{action="reboot",result="ok"} 1"#,
            r#"pdudaemon_requests_total{action="get-status",result="unknown-state"} 1"#,
            r#"pdudaemon_requests_total{action="get-status",result="pdu-unreachable"} 1"#,
            r#"pdudaemon_request_duration_seconds_bucket{le="0.05",action="reboot"} 1"#,
            "pdudaemon_request_attempts_total 2",
            "pdudaemon_connections_open 1",
            r#"pdudaemon_refusals_total{reason="line"} 1"#,
            r#"pdudaemon_log_lines_lost_total{kind="request"} 0"#,
            r#"pdudaemon_pdu_served{pdu="rack \"1\""} 1"#,
            r#"pdudaemon_pdu_settings_broken{pdu="rack \"1\""} 1"#,
            r#"pdudaemon_queue_depth{pdu="rack \"1\""} 3"#,
            r#"pdudaemon_pdu_reachable{pdu="rack \"1\""} 0"#,
            r#"pdudaemon_driver_errors_total{pdu="rack \"1\"",error="timeout"} 2"#,
            r#"pdudaemon_outlet_on{pdu="rack \"1\"",outlet="4"} 1"#,
            r#"pdudaemon_outlet_left_off{pdu="gone",outlet="7"} 1"#,
            concat!(
                r#"pdudaemon_build_info{version=""#,
                env!("CARGO_PKG_VERSION"),
                r#""} 1"#
            ),
            "# EOF",
        ] {
            assert!(
                text.lines().any(|got| got == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
