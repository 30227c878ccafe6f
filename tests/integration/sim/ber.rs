//! SNMP messages as an agent sees them: their ids, and answers that carry requests out.

/// One BER part: its tag and its content, in parts where it is constructed.
pub(crate) enum Part {
    Plain(u8, Vec<u8>),
    Built(u8, Vec<Part>),
}

/// The parts of a message; none of what is no BER.
fn parse(bytes: &[u8]) -> Vec<Part> {
    parts(bytes).unwrap_or_default()
}

fn parts(mut bytes: &[u8]) -> Option<Vec<Part>> {
    let mut found = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (length, rest) = match rest {
            [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
            [0x81, length, rest @ ..] => (usize::from(*length), rest),
            [0x82, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        found.push(if tag & 0x20 != 0 {
            Part::Built(*tag, parts(content)?)
        } else {
            Part::Plain(*tag, content.to_vec())
        });
        bytes = rest;
    }
    Some(found)
}

pub(crate) fn build(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let (tag, content) = match part {
            Part::Plain(tag, content) => (*tag, content.clone()),
            Part::Built(tag, parts) => (*tag, build(parts)),
        };
        bytes.push(tag);
        match content.len() {
            short @ 0..=0x7f => bytes.push(short as u8),
            middle @ 0x80..=0xff => bytes.extend([0x81, middle as u8]),
            long => bytes.extend([0x82, (long >> 8) as u8, long as u8]),
        }
        bytes.extend(content);
    }
    bytes
}

/// The shortest two's complement, as BER wants it.
fn integer(number: i32) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let keep = (0..3)
        .find(|at| bytes[*at] != 0 || bytes[at + 1] & 0x80 != 0)
        .unwrap_or(3);
    bytes[keep..].to_vec()
}

/// Calls `use_id` on the msgID, where there is one, and on the request id.
fn for_each_id(parts: &mut [Part], mut use_id: impl FnMut(&mut Vec<u8>)) {
    let Some(Part::Built(0x30, message)) = parts.first_mut() else {
        return;
    };
    let is_v3 = matches!(message.first(), Some(Part::Plain(2, version)) if version == &[3]);
    let pdu = if is_v3 {
        if let Some(Part::Built(0x30, head)) = message.get_mut(1)
            && let Some(Part::Plain(2, id)) = head.first_mut()
        {
            use_id(id);
        }
        match message.get_mut(3) {
            Some(Part::Built(0x30, scoped)) => scoped.get_mut(2),
            _ => None,
        }
    } else {
        message.get_mut(2)
    };
    if let Some(Part::Built(_, pdu)) = pdu
        && let Some(Part::Plain(2, id)) = pdu.first_mut()
    {
        use_id(id);
    }
}

/// The msgID of a v3 message, which may be encrypted.
pub(crate) fn message_id(message: &[u8]) -> Vec<u8> {
    let mut ids = Vec::new();
    for_each_id(&mut parse(message), |id| ids.push(id.clone()));
    ids.into_iter().next().unwrap_or_default()
}

/// The request id of a message.
pub(crate) fn request_id(message: &[u8]) -> i32 {
    let mut found = 0;
    for_each_id(&mut parse(message), |id| {
        found = id
            .iter()
            .fold(0, |number, byte| number << 8 | i32::from(*byte));
    });
    found
}

/// The message with another request id.
pub(crate) fn with_request_id(message: &[u8], new: i32) -> Vec<u8> {
    let mut parts = parse(message);
    for_each_id(&mut parts, |id| *id = integer(new));
    build(&parts)
}

/// What an agent answers that carries the request out: the request as a Response-PDU, a GET's
/// NULL replaced by the integer `read`; with `status` as its error-status. v1, v2c, and v3 of a
/// user without authentication, where an engine discovery is answered with a report.
pub(crate) fn answer(request: &[u8], status: u8, read: u8) -> Vec<u8> {
    answer_after(1, request, status, read)
}

/// The same from a v3 agent that counts so many `boots` of its engine.
pub(crate) fn answer_after(boots: u8, request: &[u8], status: u8, read: u8) -> Vec<u8> {
    reply(boots, request, |tag, pdu| respond(tag, pdu, status, read))
}

/// What a v3 agent answers that does not take the request: a report of the usmStats counter with
/// that number.
pub(crate) fn refusal(request: &[u8], counter: u8) -> Vec<u8> {
    reply(1, request, |tag, pdu| report(tag, pdu, counter))
}

fn reply(boots: u8, request: &[u8], make: impl FnOnce(&mut u8, &mut [Part])) -> Vec<u8> {
    let mut parts = parse(request);
    let Some(Part::Built(0x30, message)) = parts.first_mut() else {
        return Vec::new();
    };
    let is_v3 = matches!(message.first(), Some(Part::Plain(2, version)) if version == &[3]);
    if is_v3 {
        if let Some(Part::Built(0x30, head)) = message.get_mut(1) {
            head[2] = Part::Plain(4, vec![0]);
        }
        let is_discovery = if let Some(Part::Plain(4, usm)) = message.get_mut(2) {
            let mut parts = parse(usm);
            let Some(Part::Built(0x30, parameters)) = parts.first_mut() else {
                return Vec::new();
            };
            let is_discovery =
                matches!(&parameters[0], Part::Plain(4, engine) if engine.is_empty());
            parameters[0] = Part::Plain(4, ENGINE.to_vec());
            parameters[1] = Part::Plain(2, vec![boots]);
            parameters[2] = Part::Plain(2, vec![100]);
            *usm = build(&parts);
            is_discovery
        } else {
            return Vec::new();
        };
        if let Some(Part::Built(0x30, scoped)) = message.get_mut(3) {
            scoped[0] = Part::Plain(4, ENGINE.to_vec());
            if let Part::Built(tag, pdu) = &mut scoped[2] {
                match is_discovery {
                    // usmStatsUnknownEngineIDs
                    true => report(tag, pdu, 4),
                    false => make(tag, pdu),
                }
            }
        }
    } else if let Some(Part::Built(tag, pdu)) = message.get_mut(2) {
        make(tag, pdu);
    }
    build(&parts)
}

/// The engine id of the simulated v3 agent.
const ENGINE: &[u8] = b"\x80\x00\x1f\x88\x04simulator";

fn report(tag: &mut u8, pdu: &mut [Part], counter: u8) {
    *tag = 0xa8;
    let object = vec![0x2b, 6, 1, 6, 3, 15, 1, 1, counter, 0];
    // Counted once.
    let binding = vec![Part::Plain(6, object), Part::Plain(0x41, vec![1])];
    pdu[3] = Part::Built(0x30, vec![Part::Built(0x30, binding)]);
}

/// One object of a request or an answer: its OID, and its value's tag and content.
pub(crate) type Binding = (Vec<u32>, (u8, Vec<u8>));

/// What an agent answers for which `act` carries requests out: it is told the request's tag (0xa0 is
/// a GET, 0xa1 a GETNEXT, 0xa3 a SET) and its objects, and gives the error-status and those of the answer.
pub(crate) fn carried_out(
    request: &[u8],
    act: impl FnOnce(u8, Vec<Binding>) -> (u8, Vec<Binding>),
) -> Vec<u8> {
    reply(1, request, |tag, pdu| {
        let Some(Part::Built(0x30, list)) = pdu.get_mut(3) else {
            return;
        };
        let asked = list.iter().filter_map(|binding| match binding {
            Part::Built(0x30, pair) => match pair.as_slice() {
                [Part::Plain(6, oid), Part::Plain(tag, value)] => {
                    Some((arcs(oid), (*tag, value.clone())))
                }
                _ => None,
            },
            Part::Built(..) | Part::Plain(..) => None,
        });
        let (status, answer) = act(*tag, asked.collect());
        *list = answer
            .into_iter()
            .map(|(oid, (tag, value))| {
                let pair = vec![Part::Plain(6, content(&oid)), Part::Plain(tag, value)];
                Part::Built(0x30, pair)
            })
            .collect();
        if status != 0 {
            pdu[1] = Part::Plain(2, vec![status]);
            pdu[2] = Part::Plain(2, vec![1]);
        }
        *tag = 0xa2;
    })
}

/// The numbers of an OID, from its content.
fn arcs(content: &[u8]) -> Vec<u32> {
    let mut arcs = Vec::new();
    let mut arc = 0;
    for byte in content {
        arc = arc << 7 | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match arcs.is_empty() {
                true => arcs.extend([arc / 40, arc % 40]),
                false => arcs.push(arc),
            }
            arc = 0;
        }
    }
    arcs
}

/// The content of an OID.
pub(crate) fn content(arcs: &[u32]) -> Vec<u8> {
    let [first, second, rest @ ..] = arcs else {
        return Vec::new();
    };
    let mut bytes = vec![(first * 40 + second) as u8];
    for arc in rest {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut left = arc >> 7;
        while left > 0 {
            groups.push(0x80 | (left & 0x7f) as u8);
            left >>= 7;
        }
        bytes.extend(groups.iter().rev());
    }
    bytes
}

fn respond(tag: &mut u8, pdu: &mut [Part], status: u8, read: u8) {
    *tag = 0xa2;
    if status != 0 {
        pdu[1] = Part::Plain(2, vec![status]);
        pdu[2] = Part::Plain(2, vec![1]);
    }
    if let Some(Part::Built(0x30, list)) = pdu.get_mut(3)
        && let Some(Part::Built(0x30, binding)) = list.first_mut()
        && matches!(binding[1], Part::Plain(5, _))
        && status == 0
    {
        binding[1] = Part::Plain(2, vec![read]);
    }
}

/// The object a request is about, and the integer it sets; `None` for a request about none.
pub(crate) fn binding(message: &[u8]) -> Option<(Vec<u8>, Option<u8>)> {
    let parts = parse(message);
    let Some(Part::Built(0x30, message)) = parts.first() else {
        return None;
    };
    let pdu = match message.get(3) {
        Some(Part::Built(0x30, scoped)) => scoped.get(2),
        _ => message.get(2),
    };
    let Some(Part::Built(tag, pdu)) = pdu else {
        return None;
    };
    let Some(Part::Built(0x30, list)) = pdu.get(3) else {
        return None;
    };
    let Some(Part::Built(0x30, binding)) = list.first() else {
        return None;
    };
    match binding.as_slice() {
        [Part::Plain(6, oid), Part::Plain(2, value)] if *tag == 0xa3 => {
            Some((oid.clone(), value.last().copied()))
        }
        [Part::Plain(6, oid), _] => Some((oid.clone(), None)),
        _ => None,
    }
}
