//! The `daemon.access` section: tokens and their rights, trusted networks, proxies, host
//! names.

use super::daemon::Listen;
use super::file::ACCESS;
use super::reader::{Entry, Reader, find, join, kind_of};
use crate::access::{Access, Glob, OutletPattern, Rule, Token};
use crate::request::Action;
use crate::settings::FileError;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::str::FromStr;

const ACCESS_KEYS: &[&str] = &["tokens", "trusted_networks", "hosts", "proxies", "sites"];
const TOKEN_KEYS: &[&str] = &["name", "sha256", "file", "allow", "about"];
const RULE_KEYS: &[&str] = &["pdus", "outlets", "commands"];

/// Others can guess a shorter token: somebody has typed it and not drawn it.
const SHORT_TOKEN: usize = 16;

impl<'a> Reader<'a> {
    /// Reads the section; without one, everybody may do everything.
    pub(super) fn access(&mut self, value: Option<&'a RawValue>, listen: &[Listen]) -> Access {
        let mut access = Access::default();
        if let Some(value) = value {
            self.access_section(value, &mut access);
        }
        // Clients use the names that we listen on.
        for listen in listen {
            if let Listen::Host(host) = listen
                && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
            {
                access.hosts.push(host.to_ascii_lowercase());
            }
        }
        access
    }

    fn access_section(&mut self, value: &'a RawValue, access: &mut Access) {
        let read = self.known_object(ACCESS, value, ACCESS_KEYS);
        let Some(entries) = self.told(read) else {
            return;
        };
        // Here null does not leave a key out: no tokens would mean rights for everybody.
        if let Some((_, tokens)) = entries.iter().find(|(key, _)| key == "tokens") {
            let path = join(ACCESS, "tokens");
            let list = self.list(&path, tokens);
            let list = self.told(list);
            if list.as_ref().is_some_and(Vec::is_empty) {
                let what = "expected at least one; without the key, everybody may do everything";
                self.fail(self.text.position(tokens), format!("{path}: {what}"));
            }
            for (number, token) in list.into_iter().flatten().enumerate() {
                let token = self.token(&format!("{path}[{number}]"), token, &access.tokens);
                access.tokens.extend(self.told(token));
            }
        } else if let Some(networks) = find(&entries, "trusted_networks") {
            let what = "trusts nobody in particular without tokens: everybody may do everything; \
                        add tokens, or take this key out (daemon.max_connections_per_client \
                        bounds the connections of one address)";
            let at = self.text.position(networks);
            self.fail(at, format!("{ACCESS}.trusted_networks: {what}"));
        }
        if let Some(networks) = find(&entries, "trusted_networks") {
            let path = join(ACCESS, "trusted_networks");
            access.trusted = self.each(&path, networks, |text| text.parse());
        }
        if let Some(proxies) = find(&entries, "proxies") {
            let path = join(ACCESS, "proxies");
            access.proxies = self.each(&path, proxies, |text| text.parse());
        }
        for (key, names) in [("hosts", &mut access.hosts), ("sites", &mut access.sites)] {
            if let Some(hosts) = find(&entries, key) {
                *names = self.each(&join(ACCESS, key), hosts, host_name);
            }
        }
    }

    /// The texts of the list as `read` understands them, with each error recorded.
    fn each<T>(
        &mut self,
        path: &str,
        value: &'a RawValue,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let list = self.list(path, value);
        for value in self.told(list).unwrap_or_default() {
            let at = self.text.position(value);
            let one = self.string(path, value).and_then(|text| {
                read(&text).map_err(|message| self.error(at, format!("{path}: {message}")))
            });
            all.extend(self.told(one));
        }
        all
    }

    fn token(
        &mut self,
        path: &str,
        value: &'a RawValue,
        others: &[Token],
    ) -> Result<Token, FileError> {
        let at = self.text.position(value);
        let entries = self.known_object(path, value, TOKEN_KEYS)?;
        let name_at = find(&entries, "name")
            .ok_or_else(|| self.error(at, format!("{path}.name: missing, expected who has it")))?;
        let name = self.string(&join(path, "name"), name_at)?;
        let is_plain = |c: char| c.is_ascii_graphic() && c != '@';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(self.error(
                self.text.position(name_at),
                format!("{path}.name: expected letters, digits and signs without @, got {name:?}"),
            ));
        }
        if others.iter().any(|other| *other.name == *name) {
            return Err(self.error(
                self.text.position(name_at),
                format!("{path}.name: there is another token {name:?}"),
            ));
        }
        let hash = match (find(&entries, "sha256"), find(&entries, "file")) {
            (Some(hex), None) => {
                let text = self.string(&join(path, "sha256"), hex)?;
                hash_of_hex(&text).ok_or_else(|| {
                    self.error(
                        self.text.position(hex),
                        format!(
                            "{path}.sha256: expected 64 hexadecimal digits, as \
                             `printf %s TOKEN | sha256sum` prints them"
                        ),
                    )
                })?
            }
            (None, Some(name)) => {
                let at = self.text.position(name);
                let name = self.string(&join(path, "file"), name)?;
                let found = self
                    .vault
                    .read(&name)
                    .map_err(|message| self.error(at, format!("{path}.{message}")))?;
                self.warn_of_readers(at, path, &found);
                let token = found.text.trim();
                if token.len() < SHORT_TOKEN {
                    self.warn(
                        at,
                        format!(
                            "{path}.file: the token is shorter than {SHORT_TOKEN} characters and \
                             can be guessed; `openssl rand -hex 32` makes a good one"
                        ),
                    );
                }
                Token::hash_of(token)
            }
            (None, None) => {
                return Err(self.error(at, format!("{path}: expected sha256 or file")));
            }
            (Some(_), Some(_)) => {
                return Err(self.error(at, format!("{path}: expected either sha256 or file")));
            }
        };
        if others.iter().any(|other| other.hash == hash) {
            return Err(self.error(at, format!("{path}: this token is there twice")));
        }
        let allow = match find(&entries, "allow") {
            None => None,
            Some(value) => {
                let path = join(path, "allow");
                let mut rules = Vec::new();
                for (number, rule) in self.list(&path, value)?.into_iter().enumerate() {
                    rules.push(self.rule(&format!("{path}[{number}]"), rule)?);
                }
                if rules.is_empty() {
                    self.warn(
                        self.text.position(value),
                        format!("{path}: is empty, this token may do nothing"),
                    );
                }
                Some(rules)
            }
        };
        Ok(Token {
            name: name.into(),
            hash,
            allow,
        })
    }

    fn rule(&mut self, path: &str, value: &'a RawValue) -> Result<Rule, FileError> {
        let entries = self.known_object(path, value, RULE_KEYS)?;
        let mut rule = Rule {
            pdus: Vec::new(),
            outlets: Vec::new(),
            commands: Vec::new(),
        };
        // An empty list does not mean "all": people would read it as "none".
        for (key, value) in &entries {
            let path = join(path, key);
            let count = match key.as_str() {
                "pdus" => {
                    for value in self.list(&path, value)? {
                        rule.pdus.push(Glob::new(self.string(&path, value)?));
                    }
                    rule.pdus.len()
                }
                "outlets" => {
                    rule.outlets = self.parsed::<OutletPattern>(&path, value)?;
                    rule.outlets.len()
                }
                "commands" => {
                    rule.commands = self
                        .parsed::<Command>(&path, value)?
                        .into_iter()
                        .map(|Command(action)| action)
                        .collect();
                    rule.commands.len()
                }
                _ => continue,
            };
            if count == 0 {
                return Err(self.error(
                    self.text.position(value),
                    format!("{path}: expected at least one; leave the key out for all"),
                ));
            }
        }
        Ok(rule)
    }

    /// An object, with a complaint about every other key.
    pub(super) fn known_object(
        &mut self,
        path: &str,
        value: &'a RawValue,
        known: &[&str],
    ) -> Result<Vec<Entry<'a>>, FileError> {
        let entries = self.object(path, value)?;
        for (key, value) in &entries {
            if !known.contains(&key.as_str()) {
                let at = self.text.position(value);
                self.unknown_key(at, path, key, known);
            }
        }
        Ok(entries)
    }

    fn list(&self, path: &str, value: &'a RawValue) -> Result<Vec<&'a RawValue>, FileError> {
        serde_json::from_str(value.get()).map_err(|_| {
            self.error(
                self.text.position(value),
                format!("{path}: expected a list, got {}", kind_of(value)),
            )
        })
    }

    /// A string, or a number as its digits.
    pub(super) fn string(&self, path: &str, value: &'a RawValue) -> Result<String, FileError> {
        let text = value.get();
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(text.to_owned());
        }
        serde_json::from_str(text).map_err(|_| {
            self.error(
                self.text.position(value),
                format!("{path}: expected a string, got {}", kind_of(value)),
            )
        })
    }

    /// A list of values that strings stand for.
    fn parsed<T: FromStr<Err = String>>(
        &self,
        path: &str,
        value: &'a RawValue,
    ) -> Result<Vec<T>, FileError> {
        let mut all = Vec::new();
        for value in self.list(path, value)? {
            let text = self.string(path, value)?;
            let one = text.parse().map_err(|message: String| {
                self.error(self.text.position(value), format!("{path}: {message}"))
            })?;
            all.push(one);
        }
        Ok(all)
    }
}

fn host_name(host: &str) -> Result<String, String> {
    let is_wrong = |c: char| c.is_whitespace() || "/:@[]".contains(c);
    if host.is_empty() || host.chars().any(is_wrong) {
        return Err(format!("expected a host name without a port, got {host:?}"));
    }
    Ok(host.to_ascii_lowercase())
}

struct Command(Action);

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|()| format!("expected {}, got {text:?}", Action::COMMANDS))
    }
}

fn hash_of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}
