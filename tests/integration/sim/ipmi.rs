//! A BMC on a loopback UDP port, with IPMI 1.5 and 2.0: a session's login and its encryption are
//! real, and `ipmitool` proves them. What it is asked in a session it answers by a transcript, or
//! for a machine whose power it switches.
//!
//! In a transcript the first line is the login that is expected, `> login 17 operator ADMIN`: the
//! cipher suite, or IPMI 1.5's way of authentication; and then `< ok`. Further lines are messages:
//! `>` network function, command and data, `<` completion code and data.

use super::Simulator;
use super::port::{Served, datagrams};
use super::script::Script;
use crate::transcript::{Case, Line, bytes};
use aes::Aes128;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

/// The only user, unless a test says otherwise.
pub(crate) const USER: &str = "ADMIN";
pub(crate) const PASSWORD: &str = "secret";

const GUID: [u8; 16] = *b"a simulated BMC.";

/// IPMI 1.5's ways of authentication.
pub(crate) const NONE: u8 = 0;
pub(crate) const MD5: u8 = 2;
pub(crate) const STRAIGHT: u8 = 4;

/// What kind of BMC it is.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) user: &'static str,
    pub(crate) password: String,
    /// The user's highest privilege.
    pub(crate) privilege: u8,
    /// IPMI 2.0's cipher suites; none: it speaks only IPMI 1.5.
    pub(crate) suites: Vec<u8>,
    pub(crate) tells_suites: bool,
    pub(crate) kg: Option<Vec<u8>>,
    /// IPMI 1.5's ways of authentication.
    pub(crate) ways: Vec<u8>,
    /// IPMI 1.5: is each message of a session signed?
    pub(crate) signs_each: bool,
    /// How many sessions it has to give.
    pub(crate) slots: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            user: USER,
            password: PASSWORD.into(),
            privilege: 4,
            suites: vec![3, 17],
            tells_suites: true,
            kg: None,
            ways: vec![MD5, STRAIGHT],
            signs_each: true,
            slots: 4,
        }
    }
}

/// What the BMC is about to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Greeting,
    Suites,
    Challenge,
    Activate,
    Open,
    Rakp2,
    Rakp4,
    Privilege,
    Status,
    Control,
    Farewell,
    Other,
}

/// Turns what the BMC says into what goes out.
type Spoil = dyn FnMut(Step, Vec<u8>) -> Vec<Vec<u8>> + Send;

enum Mind {
    Machine,
    Script(Arc<Script>),
}

/// A session, from its first datagram on.
struct Session {
    /// `md5`, `17` and so on.
    how: How,
    console: u32,
    privilege: u8,
    /// The next datagram's.
    sequence: u32,
    /// The last request in it, and its answer.
    last: Option<(Vec<u8>, Vec<u8>)>,
    is_active: bool,
}

enum How {
    Old(u8),
    New {
        suite: u8,
        console_random: [u8; 16],
        bmc_random: [u8; 16],
        role: u8,
        signing: Vec<u8>,
        encrypting: [u8; 16],
    },
}

/// The BMC and its machine.
pub(crate) struct Bmc {
    pub(crate) setup: Setup,
    mind: Mind,
    pub(crate) is_on: bool,
    /// A chassis command is answered with this completion code instead, while it is not 0.
    pub(crate) refuses: u8,
    /// Each chassis control that was carried out, copies not counted.
    pub(crate) controls: Vec<u8>,
    /// How each session was opened.
    pub(crate) logins: Vec<String>,
    sessions: HashMap<u32, Session>,
    next_session: u32,
    spoil: Box<Spoil>,
}

/// A BMC that runs.
pub(crate) struct Running {
    served: Served,
    pub(crate) bmc: Arc<Mutex<Bmc>>,
}

impl Running {
    /// A machine that is off.
    pub(crate) fn start(setup: Setup) -> Self {
        Self::with(setup, Mind::Machine)
    }

    fn with(setup: Setup, mind: Mind) -> Self {
        let bmc = Arc::new(Mutex::new(Bmc {
            setup,
            mind,
            is_on: false,
            refuses: 0,
            controls: Vec::new(),
            logins: Vec::new(),
            sessions: HashMap::new(),
            next_session: 0x4d42_0001,
            spoil: Box::new(|_, datagram| vec![datagram]),
        }));
        let shared = Arc::clone(&bmc);
        let socket = datagrams(Ipv4Addr::LOCALHOST.into());
        let served = Served::on(socket, move |socket, ending| {
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if ending.is_near() {
                    return;
                }
                let said = shared.lock().expect("lock").hear(&buffer[..length]);
                for datagram in said {
                    let _ = socket.send_to(&datagram, from);
                }
            }
        });
        Self { served, bmc }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// From now on, this goes out instead.
    pub(crate) fn spoil(&self, spoil: impl FnMut(Step, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) {
        self.bmc.lock().expect("lock").spoil = Box::new(spoil);
    }

    /// How many sessions are open or about to be.
    pub(crate) fn sessions(&self) -> usize {
        self.bmc.lock().expect("lock").sessions.len()
    }

    pub(crate) fn controls(&self) -> Vec<u8> {
        self.bmc.lock().expect("lock").controls.clone()
    }
}

/// The BMC of a transcript: what it can do is what the transcript's login needs.
pub(super) fn start(case: &Case) -> Scripted {
    let login = case.lines.first();
    let how = match login {
        Some(Line::Sent(text)) => text.split(' ').nth(1).unwrap_or_default(),
        _ => "17",
    };
    let mut setup = Setup::default();
    match how {
        "17" => {}
        "3" => setup.suites = vec![3],
        way => {
            setup.suites.clear();
            setup.ways = vec![way_of(way)];
        }
    }
    let script = Script::of(case);
    let running = Running::with(setup, Mind::Script(Arc::clone(&script)));
    Scripted { running, script }
}

/// How many datagrams the BMC answers the login of a transcript with.
pub(crate) fn answers_to_login(case: &Case) -> usize {
    let is_new = matches!(
        case.lines.first(),
        Some(Line::Sent(text)) if ["17", "3"].contains(&text.split(' ').nth(1).unwrap_or_default())
    );
    match is_new {
        // The greeting, maybe the suites; Open Session, RAKP 2 and 4, the privilege.
        true => 5 + usize::from(!case.settings.contains_key("suite")),
        // The greeting twice, the challenge, the session, the privilege.
        false => 5,
    }
}

fn way_of(word: &str) -> u8 {
    match word {
        "none" => NONE,
        "md5" => MD5,
        "password" => STRAIGHT,
        other => panic!("unknown way {other}"),
    }
}

/// A BMC that plays a transcript.
pub(crate) struct Scripted {
    running: Running,
    script: Arc<Script>,
}

impl Simulator for Scripted {
    fn overrides(&self) -> serde_json::Value {
        serde_json::json!({ "ip": self.running.address().to_string() })
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        self.running.served.end();
        self.script.outcome()
    }
}

fn le(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"))
}

fn filled(text: &str) -> [u8; 16] {
    let mut filled = [0; 16];
    filled[..text.len()].copy_from_slice(text.as_bytes());
    filled
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// An answer to the message `asked`.
fn message(asked: &[u8], completion: u8, data: &[u8]) -> Vec<u8> {
    let head = [0x81, asked[1] | 4];
    let mut body = vec![0x20, asked[4], asked[5], completion];
    body.extend(data);
    let mut bytes = head.to_vec();
    bytes.push(checksum(&head));
    bytes.extend(&body);
    bytes.push(checksum(&body));
    bytes
}

fn hmac(suite: u8, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let text = parts.concat();
    match suite {
        3 => {
            let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key");
            mac.update(&text);
            mac.finalize().into_bytes().to_vec()
        }
        _ => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
            mac.update(&text);
            mac.finalize().into_bytes().to_vec()
        }
    }
}

fn code_length(suite: u8) -> usize {
    if suite == 3 { 12 } else { 16 }
}

fn algorithms(suite: u8) -> [u8; 3] {
    if suite == 3 { [1, 1, 1] } else { [3, 4, 1] }
}

fn old_code(way: u8, password: &str, session: u32, message: &[u8], sequence: u32) -> Vec<u8> {
    let password = filled(password);
    match way {
        NONE => Vec::new(),
        STRAIGHT => password.to_vec(),
        _ => Md5::new()
            .chain_update(password)
            .chain_update(session.to_le_bytes())
            .chain_update(message)
            .chain_update(sequence.to_le_bytes())
            .chain_update(password)
            .finalize()
            .to_vec(),
    }
}

fn old_datagram(way: u8, password: &str, session: u32, sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![6, 0, 0xff, 7, way];
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(session.to_le_bytes());
    bytes.extend(old_code(way, password, session, message, sequence));
    bytes.push(u8::try_from(message.len()).expect("short"));
    bytes.extend(message);
    bytes
}

fn new_datagram(kind: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![6, 0, 0xff, 7, 6, kind];
    bytes.extend(session.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(u16::try_from(payload.len()).expect("short").to_le_bytes());
    bytes.extend(payload);
    bytes
}

impl Bmc {
    /// What goes out when this comes.
    fn hear(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let said = match datagram {
            [6, 0, 0xff, 7, 6, rest @ ..] => self.hear_new(rest),
            [6, 0, 0xff, 7, rest @ ..] => self.hear_old(rest),
            _ => None,
        };
        match said {
            Some((step, datagram)) => (self.spoil)(step, datagram),
            None => Vec::new(),
        }
    }

    fn hear_old(&mut self, bytes: &[u8]) -> Option<(Step, Vec<u8>)> {
        let (way, sequence, id) = (bytes[0], le(&bytes[1..]), le(&bytes[5..]));
        let (code, rest) = bytes[9..].split_at(if way == NONE { 0 } else { 16 });
        let asked = &rest[1..][..usize::from(rest[0])];
        if id == 0 {
            let (step, completion, data) = self.outside(asked)?;
            let answer = message(asked, completion, &data);
            return Some((step, old_datagram(NONE, "", 0, 0, &answer)));
        }
        let password = self.setup.password.clone();
        let session = self.sessions.get_mut(&id)?;
        let How::Old(agreed) = session.how else {
            return None;
        };
        // A wrong password is answered with silence.
        if way != agreed || code != old_code(way, &password, id, asked, sequence) {
            return None;
        }
        if asked[5] == 0x3a {
            let is_copy = std::mem::replace(&mut session.is_active, true);
            session.console = le(&asked[24..]);
            // Where each side begins to count.
            let sequence = session.console;
            session.sequence = sequence;
            let stays = if self.setup.signs_each { way } else { NONE };
            session.how = How::Old(stays);
            let mut data = vec![stays];
            data.extend(id.to_le_bytes());
            data.extend(7u32.to_le_bytes());
            data.push(4);
            let answer = message(asked, 0, &data);
            if !is_copy {
                let user = self.setup.user;
                self.logins.push(format!("{} {user}", word_of(way)));
            }
            return Some((Step::Activate, old_datagram(way, &password, id, 0, &answer)));
        }
        let (step, answer) = self.inside(id, asked)?;
        let sequence = self.next_sequence(id);
        Some((step, old_datagram(agreed, &password, id, sequence, &answer)))
    }

    /// Every session is gone, as after its restart.
    pub(crate) fn forget(&mut self) {
        self.sessions.clear();
    }

    fn next_sequence(&mut self, id: u32) -> u32 {
        // A session that has just been closed counts no more.
        let Some(session) = self.sessions.get_mut(&id) else {
            return 99;
        };
        session.sequence = session.sequence.wrapping_add(1);
        session.sequence
    }

    fn hear_new(&mut self, bytes: &[u8]) -> Option<(Step, Vec<u8>)> {
        let (kind, id) = (bytes[0], le(&bytes[1..]));
        let length = usize::from(u16::from_le_bytes([bytes[9], bytes[10]]));
        let payload = &bytes[11..][..length];
        match kind {
            0x10 => Some((Step::Open, self.open(payload))),
            0x12 => Some((Step::Rakp2, self.rakp2(payload)?)),
            0x14 => Some((Step::Rakp4, self.rakp4(payload)?)),
            0xc0 => self.sealed(id, payload, bytes),
            _ => None,
        }
    }

    /// What is asked before a session: a step, a completion code and data.
    fn outside(&mut self, asked: &[u8]) -> Option<(Step, u8, Vec<u8>)> {
        let setup = &self.setup;
        match (asked[1] >> 2, asked[5]) {
            (6, 0x38) => {
                let ways = setup.ways.iter().fold(0, |bits, way| bits | 1 << way);
                let wants_new = asked[6] & 0x80 != 0;
                let mut data = vec![1, ways, 0x04, 0, 0, 0, 0, 0];
                if setup.suites.is_empty() && wants_new {
                    // As an old one, which does not know the bit.
                    return Some((Step::Greeting, 0xcc, Vec::new()));
                }
                if !setup.suites.is_empty() {
                    data[1] |= 0x80;
                    data[2] |= if setup.kg.is_some() { 0x20 } else { 0 };
                    data[3] = 3;
                }
                Some((Step::Greeting, 0, data))
            }
            (6, 0x54) if setup.tells_suites => {
                let mut records = Vec::new();
                for suite in &setup.suites {
                    let [a, i, c] = algorithms(*suite);
                    records.extend([0xc0, *suite, a, 0x40 | i, 0x80 | c]);
                }
                let part = usize::from(asked[8] & 0x3f);
                let list = records.chunks(16).nth(part).unwrap_or_default();
                Some((Step::Suites, 0, [&[1], list].concat()))
            }
            (6, 0x39) => {
                if asked[7..23] != filled(setup.user) {
                    return Some((Step::Challenge, 0x81, Vec::new()));
                }
                let id = self.new_session(How::Old(asked[6]), 0);
                let mut data = id?.to_le_bytes().to_vec();
                data.extend([0x5a; 16]);
                Some((Step::Challenge, 0, data))
            }
            _ => Some((Step::Other, 0xc1, Vec::new())),
        }
    }

    fn new_session(&mut self, how: How, console: u32) -> Option<u32> {
        if self.sessions.len() >= self.setup.slots {
            return None;
        }
        let id = self.next_session;
        self.next_session += 1;
        let session = Session {
            how,
            console,
            privilege: 2,
            sequence: 0,
            last: None,
            is_active: false,
        };
        self.sessions.insert(id, session);
        Some(id)
    }

    fn open(&mut self, asked: &[u8]) -> Vec<u8> {
        let (tag, console) = (asked[0], le(&asked[4..]));
        let wanted = [asked[12], asked[20], asked[28]];
        let suite = self.setup.suites.iter().copied();
        let suite = suite.clone().find(|suite| algorithms(*suite) == wanted);
        let refused = |status| {
            let mut answer = vec![tag, status, 0, 0];
            answer.extend(console.to_le_bytes());
            new_datagram(0x11, 0, 0, &answer)
        };
        let Some(suite) = suite else {
            return refused(0x11);
        };
        let waiting = self.sessions.iter();
        let waiting = waiting.filter(|(_, session)| session.console == console);
        let again = waiting.map(|(id, _)| *id).next();
        let how = How::New {
            suite,
            console_random: [0; 16],
            bmc_random: [0; 16],
            role: 0,
            signing: Vec::new(),
            encrypting: [0; 16],
        };
        let Some(id) = again.or_else(|| self.new_session(how, console)) else {
            return refused(0x01);
        };
        let mut answer = vec![tag, 0, 4, 0];
        answer.extend(console.to_le_bytes());
        answer.extend(id.to_le_bytes());
        answer.extend(&asked[8..32]);
        new_datagram(0x11, 0, 0, &answer)
    }

    /// The answer to RAKP 1: the proof that we know the password.
    fn rakp2(&mut self, asked: &[u8]) -> Option<Vec<u8>> {
        let (tag, id, role) = (asked[0], le(&asked[4..]), asked[24]);
        let name = &asked[28..];
        assert_eq!(usize::from(asked[27]), name.len(), "the length of the name");
        let (user, password) = (self.setup.user, self.setup.password.clone());
        let highest = self.setup.privilege;
        let session = self.sessions.get_mut(&id)?;
        let console = session.console.to_le_bytes();
        let refused = |status| {
            let answer = [&[tag, status, 0, 0], console.as_slice()].concat();
            Some(new_datagram(0x13, 0, 0, &answer))
        };
        let failed = match () {
            () if name != user.as_bytes() => 0x0d,
            () if role & 0x0f > highest => 0x0a,
            () => 0,
        };
        if failed != 0 {
            self.sessions.remove(&id);
            return refused(failed);
        }
        let How::New {
            suite,
            console_random,
            bmc_random,
            role: said,
            ..
        } = &mut session.how
        else {
            return None;
        };
        console_random.copy_from_slice(&asked[8..24]);
        let mut random = [0xb3; 16];
        random[..4].copy_from_slice(&id.to_le_bytes());
        *bmc_random = random;
        *said = role;
        let who = [&[role, asked[27]], name].concat();
        let parts: [&[u8]; 6] = [&console, &asked[4..8], &asked[8..24], &random, &GUID, &who];
        let proof = hmac(*suite, password.as_bytes(), &parts);
        let answer = [&[tag, 0, 0, 0], console.as_slice(), &random, &GUID, &proof].concat();
        Some(new_datagram(0x13, 0, 0, &answer))
    }

    /// The answer to RAKP 3, which proves that the other side knows it.
    fn rakp4(&mut self, asked: &[u8]) -> Option<Vec<u8>> {
        let (tag, status, id) = (asked[0], asked[1], le(&asked[4..]));
        if status != 0 {
            self.sessions.remove(&id);
            return None;
        }
        let (user, password) = (self.setup.user, self.setup.password.clone());
        let kg = self.setup.kg.clone();
        let session = self.sessions.get_mut(&id)?;
        let console = session.console.to_le_bytes();
        let How::New {
            suite,
            console_random,
            bmc_random,
            role,
            signing,
            encrypting,
        } = &mut session.how
        else {
            return None;
        };
        let name = user.as_bytes();
        let length = u8::try_from(name.len()).expect("short");
        let who = [&[*role, length], name].concat();
        let proof = hmac(*suite, password.as_bytes(), &[bmc_random, &console, &who]);
        if proof != asked[8..] {
            self.sessions.remove(&id);
            let answer = [&[tag, 0x0f, 0, 0], console.as_slice()].concat();
            return Some(new_datagram(0x15, 0, 0, &answer));
        }
        let key = kg.unwrap_or(password.into_bytes());
        let session_key = hmac(*suite, &key, &[console_random, bmc_random, &who]);
        *signing = hmac(*suite, &session_key, &[&[1; 20]]);
        encrypting.copy_from_slice(&hmac(*suite, &session_key, &[&[2; 20]])[..16]);
        let parts: [&[u8]; 3] = [console_random, &id.to_le_bytes(), &GUID];
        let check = hmac(*suite, &session_key, &parts);
        let check = &check[..code_length(*suite)];
        let answer = [&[tag, 0, 0, 0], console.as_slice(), check].concat();
        if !std::mem::replace(&mut session.is_active, true) {
            self.logins.push(format!("{suite} {user}"));
        }
        Some(new_datagram(0x15, 0, 0, &answer))
    }

    /// A message in a session of IPMI 2.0.
    fn sealed(&mut self, id: u32, payload: &[u8], bytes: &[u8]) -> Option<(Step, Vec<u8>)> {
        let session = self.sessions.get(&id)?;
        let console = session.console;
        let How::New {
            suite,
            signing,
            encrypting,
            ..
        } = &session.how
        else {
            return None;
        };
        let (suite, signing, encrypting) = (*suite, signing.clone(), *encrypting);
        let behind_rmcp = [&[6], bytes].concat();
        let (signed, code) = behind_rmcp.split_at(behind_rmcp.len() - code_length(suite));
        if hmac(suite, &signing, &[signed])[..code.len()] != *code {
            return None;
        }
        assert_eq!(signed.len() % 4, 0, "the padding of the signature");
        let (start, rest) = payload.split_at(16);
        let mut asked = rest.to_vec();
        let mut cipher = cbc::Decryptor::<Aes128>::new_from_slices(&encrypting, start).ok()?;
        for block in asked.chunks_exact_mut(16) {
            cipher.decrypt_block_mut(block.into());
        }
        let padding = usize::from(*asked.last()?);
        let pads: Vec<u8> = (1u8..).take(padding).collect();
        asked.pop();
        assert!(asked.ends_with(&pads), "the padding of the message");
        asked.truncate(asked.len() - padding);
        let (step, mut answer) = self.inside(id, &asked)?;
        let sequence = self.next_sequence(id);
        let padding = (16 - (answer.len() + 1) % 16) % 16;
        answer.extend((1u8..).take(padding));
        answer.push(u8::try_from(padding).expect("short"));
        let start = [0x77; 16];
        let mut cipher = cbc::Encryptor::<Aes128>::new(&encrypting.into(), &start.into());
        for block in answer.chunks_exact_mut(16) {
            cipher.encrypt_block_mut(block.into());
        }
        let payload = [start.as_slice(), &answer].concat();
        let mut datagram = new_datagram(0xc0, console, sequence, &payload);
        let padding = (4 - (datagram.len() - 4 + 2) % 4) % 4;
        datagram.extend(&[0xff; 3][..padding]);
        datagram.extend([u8::try_from(padding).expect("short"), 7]);
        let code = hmac(suite, &signing, &[&datagram[4..]]);
        datagram.extend(&code[..code_length(suite)]);
        Some((step, datagram))
    }

    /// The answer to a message in a session: a copy is answered as before.
    fn inside(&mut self, id: u32, asked: &[u8]) -> Option<(Step, Vec<u8>)> {
        let (function, command, data) = (asked[1] >> 2, asked[5], &asked[6..asked.len() - 1]);
        let step = match (function, command) {
            (6, 0x3b) => Step::Privilege,
            (6, 0x3c) => Step::Farewell,
            (0, 1) => Step::Status,
            (0, 2) => Step::Control,
            _ => Step::Other,
        };
        let session = self.sessions.get_mut(&id)?;
        if !session.is_active {
            return None;
        }
        if let Some((before, answer)) = &session.last
            && before == asked
        {
            return Some((step, answer.clone()));
        }
        let (completion, said) = match step {
            Step::Privilege if data[0] > self.setup.privilege => (0x80, Vec::new()),
            Step::Privilege => {
                session.privilege = data[0];
                (0, data.to_vec())
            }
            Step::Farewell => {
                self.sessions.remove(&id);
                return Some((step, message(asked, 0, &[])));
            }
            Step::Status | Step::Control => {
                let privilege = session.privilege;
                self.chassis(privilege, command, data)?
            }
            _ => (0xc1, Vec::new()),
        };
        let answer = message(asked, completion, &said);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.last = Some((asked.to_vec(), answer.clone()));
        }
        Some((step, answer))
    }

    fn chassis(&mut self, privilege: u8, command: u8, data: &[u8]) -> Option<(u8, Vec<u8>)> {
        if let Mind::Script(script) = &self.mind {
            let role = if privilege == 3 {
                "operator"
            } else {
                "administrator"
            };
            let login = self.logins.last().expect("logged in");
            let (how, user) = login.split_once(' ').expect("two words");
            let login = format!("login {how} {role} {user}");
            let answer = play(script, &login, &[&[0, command], data].concat());
            return match answer {
                Ok(answer) => answer
                    .split_first()
                    .map(|(code, data)| (*code, data.to_vec())),
                Err(wrong) => {
                    script.note(Err(wrong));
                    None
                }
            };
        }
        if command == 2 && privilege < 3 {
            return Some((0xd4, Vec::new()));
        }
        if self.refuses != 0 && command == 2 {
            return Some((self.refuses, Vec::new()));
        }
        if command == 2 {
            self.controls.push(data[0]);
            self.is_on = data[0] == 1;
            return Some((0, Vec::new()));
        }
        let state = 0x20 | u8::from(self.is_on);
        Some((0, vec![state, 0x10, 0x40, 0x00]))
    }
}

fn word_of(way: u8) -> &'static str {
    match way {
        NONE => "none",
        MD5 => "md5",
        _ => "password",
    }
}

/// The transcript's answer to this message, after the login that it expects.
fn play(script: &Script, login: &str, asked: &[u8]) -> Result<Vec<u8>, String> {
    let mut lines = script.lines();
    if let Some(Line::Sent(text)) = lines.last()
        && text.starts_with("login ")
    {
        if text != login {
            return Err(format!("expected {text}, got {login}"));
        }
        lines.pop();
        lines.pop_if(|line| matches!(line, Line::Answer(_)));
    }
    let shown: Vec<String> = asked.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = shown.join(" ");
    let Some(Line::Sent(text)) = lines.pop() else {
        return Err(format!("expected nothing more, got {shown}"));
    };
    if bytes(&text) != asked {
        return Err(format!("expected {text}, got {shown}"));
    }
    match lines.pop_if(|line| matches!(line, Line::Answer(_))) {
        Some(Line::Answer(text)) => Ok(bytes(&text)),
        _ => Ok(Vec::new()),
    }
}
