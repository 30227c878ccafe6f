//! The config file as written: names and raw JSON values in the order of the file, so that the
//! reader sees duplicates, and every complaint has its line and column.

use crate::request::hint::nearest;
use crate::settings::{
    Ignored, Keys, Position, Seconds, Settings, TextOrList, TextOrNumber, Value, Within, keys,
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::str::FromStr;

/// The entries of a JSON object, duplicates included.
pub(super) struct Entries<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The text of the file, with marks on the way to count a place from: a config of thousands of PDUs
/// may well be one long line.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) whole: &'a str,
    marks: Vec<(usize, Position)>,
}

/// The distance between marks, about.
const MARK_EVERY: usize = 1024;

impl<'a> Text<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        let mut marks = vec![(0, Position { line: 1, column: 1 })];
        let (mut offset, mut at) = (0, Position { line: 1, column: 1 });
        while let Some(end) =
            (offset + MARK_EVERY..whole.len()).find(|end| whole.is_char_boundary(*end))
        {
            let passed = whole.get(offset..end).unwrap_or_default();
            at = at.plus(Position::of(passed, passed.len()));
            marks.push((end, at));
            offset = end;
        }
        Self { whole, marks }
    }

    /// The place of a value that is part of this text.
    pub(super) fn position(&self, value: &RawValue) -> Position {
        let offset = value
            .get()
            .as_ptr()
            .addr()
            .saturating_sub(self.whole.as_ptr().addr());
        let next = self.marks.partition_point(|(mark, _)| *mark <= offset);
        let Some((mark, at)) = next.checked_sub(1).and_then(|last| self.marks.get(last)) else {
            return Position::of(self.whole, offset);
        };
        let rest = self.whole.get(*mark..).unwrap_or_default();
        at.plus(Position::of(rest, offset - mark))
    }
}

/// Which protocols the port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP only.
    Http,
    /// The legacy line protocol only.
    Tcp,
    /// Both on the one port, told apart by the first bytes.
    Both,
}

impl FromStr for Protocols {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Self::Http),
            "tcp" => Ok(Self::Tcp),
            "both" => Ok(Self::Both),
            _ => Err(format!(
                "expected \"http\", \"tcp\" or \"both\", got {text:?}"
            )),
        }
    }
}

impl Value for Protocols {
    const KIND: &'static str = "text";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        String::read(json)?.parse()
    }
}

/// The hosts to listen on.
#[derive(Debug)]
pub(super) struct Hosts(pub(super) Vec<String>);

impl Value for Hosts {
    const KIND: &'static str = "text or list";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let hosts = match TextOrList::read(json) {
            Ok(TextOrList::Text(host)) => vec![host],
            Ok(TextOrList::List(hosts)) => hosts,
            Err(_) => Vec::new(),
        };
        match hosts.is_empty() {
            false => Ok(Self(hosts)),
            true => Err(HOSTS_EXPECTED.to_owned()),
        }
    }
}

/// What the key `hostname` may be.
pub(super) const HOSTS_EXPECTED: &str =
    "expected an address, a list of addresses, or null for all interfaces";

const MEGA: usize = 1 << 20;
const KILO: usize = 1 << 10;

keys! {
    /// The `daemon` section as written.
    #[derive(Debug)]
    pub(super) struct DaemonKeys {
        pub(super) hostname: Option<Hosts> => "required",
            "where to listen: an address, a list of addresses, `null` for all, or the path of a Unix socket";
        pub(super) port: Option<u16> => "16421", "`null` or 0: the system chooses";
        pub(super) listener: Protocols = "both", "`http`, `tcp`, or both on the one port";
        pub(super) logging_level: Option<String> => "`INFO`",
            "`DEBUG`, `INFO`, `WARNING` or `ERROR`; the option `--loglevel` overrides it";
        pub(super) state_directory: Option<String> => "systemd's",
            "holds the locks against `--drive`, and the journal from which the next start finishes a \
             reboot after a crash";
        pub(super) profiles: Option<Vec<String>> => "`[\"/etc/pdudaemon/profiles\"]`",
            "folders with [profiles](profiles.md) of your own";
        #[expect(dead_code, reason = "read with its place in the file")]
        pub(super) access: Ignored, "tokens, trusted networks, proxies, host names and sites: [security.md](security.md)";
        #[expect(dead_code, reason = "read with its place in the file")]
        pub(super) tls: Ignored, "certificate and key, and authorities of clients: [security.md](security.md)";
        pub(super) max_connections: Option<Within<1>> => "from the descriptor limit",
            "connections at a time; an idle one makes room for a new one, else one whose client has \
             closed its side";
        pub(super) max_connections_per_client: Option<Within<1>>
            => "three quarters of max_connections, 1024 at most",
            "connections of one client address (of IPv6: one /64); loopback, trusted networks and named \
             proxies have no such bound";
        pub(super) max_head_bytes: Within<256, MEGA> = 16384, "the head of a request";
        pub(super) max_headers: Within<8, 10_000> = 100, "headers of a request";
        pub(super) max_body_bytes: Within<256, { 16 * MEGA }> = 65536, "the body of a request";
        pub(super) max_line_bytes: Within<64, { 64 * KILO }> = 1024, "a line of the line protocol";
        pub(super) max_buffered_bytes: Within<{ 64 * KILO }> = 67108864,
            "bytes that the daemon keeps for all clients together: requests in part, and answers that \
             clients have not taken; never less than twice `max_head_bytes` and `max_body_bytes` \
             together";
        pub(super) max_wrong_tokens: Within<1, 1_000_000> = 10,
            "wrong tokens of one client address (of IPv6: one /64); after that one every two seconds";
        pub(super) idle_timeout: Seconds<100> = 30, "seconds that a connection may go without a byte";
        pub(super) request_timeout: Seconds<100> = 60,
            "seconds that a request may take to arrive whole, and the client to take the answer";
    }
}

keys! {
    /// An alias as written: one outlet, or a list of them.
    #[derive(Debug)]
    pub(super) struct AliasKeys {
        pub(super) hostname: Option<String>, "the PDU";
        pub(super) port: Option<TextOrNumber>, "the outlet";
        pub(super) outlet: Option<TextOrNumber>, "another word for `port`";
        pub(super) outlets: Option<Vec<Member>>, "each with `hostname` and `port`";
    }
}

/// One outlet of an alias.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) hostname: String,
    pub(super) port: String,
}

impl Value for Member {
    const KIND: &'static str = "object";

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let port = json.get("port").or_else(|| json.get("outlet"));
        match (json.get("hostname"), port) {
            (Some(hostname), Some(port)) => Ok(Self {
                hostname: String::read(hostname)?,
                port: TextOrNumber::read(port)?.0,
            }),
            _ => Err("expected hostname and port in each".to_owned()),
        }
    }
}

/// The top-level keys.
pub(super) const SECTIONS: &[&str] = &["daemon", "pdus", "aliases"];

/// A section as settings, so that its errors carry key and place.
pub(super) fn section(text: &Text<'_>, name: &str, driver: &str, value: &RawValue) -> Settings {
    Settings::new(
        crate::request::PduName::new(name),
        driver,
        value.get(),
        text.position(value),
    )
}

/// The key path of the section about rights.
pub(super) const ACCESS: &str = "daemon.access";
/// Where TLS is set up.
pub(super) const TLS: &str = "daemon.tls";

/// Is this key path about rights? A mistake there is an error, and we guess nothing: others would
/// find a door that a slip leaves open first.
pub(super) fn decides_rights(path: &str) -> bool {
    matches!(path, ACCESS | TLS)
        || path.starts_with("daemon.access.")
        || path.starts_with("daemon.access[")
}

/// Is this unknown key probably about rights: `access` or `tokens` misspelt, or a key of that
/// section in another place?
pub(super) fn is_meant_for_rights(path: &str, key: &str) -> bool {
    matches!(path, "" | "daemon")
        && (key == "trusted_networks"
            || nearest(
                key,
                ["access", "tokens"].into_iter().chain(DaemonKeys::names()),
            )
            .is_some_and(|word| matches!(word, "access" | "tokens" | "tls")))
}
