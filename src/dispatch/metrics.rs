//! What is counted, for Prometheus. Counting a request costs a few atomic additions.

use super::held::held;
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
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The program's counters.
#[expect(clippy::type_complexity, reason = "nobody else names these types")]
pub struct Metrics {
    /// Tells how many lines the log has lost, of requests and of all else, and what is wrong with it.
    log: OnceLock<Box<dyn Fn() -> ([u64; 2], Option<String>) + Send + Sync>>,
    registry: Registry,
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    latency: Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>,
    driver_calls_per_request: Counter,
    connections: Counter,
    open: Gauge,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    handshakes: Family<[(&'static str, &'static str); 1], Counter>,
    /// When the certificate that is served ends, in seconds since 1970, and what is wrong with the
    /// files of the config.
    tls: Mutex<(Option<i64>, Option<String>)>,
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
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let latency = Family::new_with_constructor(histogram);
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

    /// From now on the certificate that is served ends then, in seconds since 1970, and this is wrong
    /// with the files of the config.
    pub fn tell_tls(&self, expires: Option<i64>, trouble: Option<String>) {
        *held(&self.tls) = (expires, trouble);
    }

    /// Days until the certificate ends; negative once it is over.
    fn tls_days_left(&self) -> Option<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        let expires = held(&self.tls).0;
        expires.map(|expires| (expires as f64 - now) / 86_400.0)
    }

    /// From now on the log is watched, too: it tells how many lines about requests are lost and how
    /// many others, and what is wrong. Only the first watch counts.
    pub fn watch_log(
        &self,
        watch: impl Fn() -> ([u64; 2], Option<String>) + Send + Sync + 'static,
    ) {
        let _ = self.log.set(Box::new(watch));
    }

    /// What is wrong with the log and with TLS.
    pub fn troubles(&self) -> Vec<String> {
        let log = self.log.get().and_then(|log| log().1);
        let is_over = self.tls_days_left().is_some_and(|days| days < 0.0);
        let expired = || is_over.then(|| "the TLS certificate has expired".to_owned());
        let tls = held(&self.tls).1.clone().or_else(expired);
        log.into_iter().chain(tls).collect()
    }

    /// Everything in the OpenMetrics text form, with what is known of the `pdus`.
    pub(super) fn text(&self, pdus: &Registry) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut out, &self.registry);
        let _ = text::encode_registry(&mut out, pdus);
        let _ = text::encode_registry(
            &mut out,
            &registry_of_log(self.log.get().map_or([0; 2], |log| log().0)),
        );
        if let Some(days) = self.tls_days_left() {
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

fn registry_of_log([requests, others]: [u64; 2]) -> Registry {
    let lost = Family::<[(&str, &str); 1], Counter>::default();
    for (kind, lines) in [("request", requests), ("other", others)] {
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
        let text = metrics.text(&Registry::default());
        for line in [
            r#"pdudaemon_requests_total{action="reboot",result="ok"} 1"#,
            r#"pdudaemon_requests_total{action="get-status",result="unknown-state"} 1"#,
            r#"pdudaemon_requests_total{action="get-status",result="pdu-unreachable"} 1"#,
            r#"pdudaemon_request_duration_seconds_bucket{le="0.05",action="reboot"} 1"#,
            "pdudaemon_request_attempts_total 2",
            "pdudaemon_connections_open 1",
            r#"pdudaemon_refusals_total{reason="line"} 1"#,
            r#"pdudaemon_log_lines_lost_total{kind="request"} 0"#,
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
