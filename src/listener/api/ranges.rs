//! `rack[1-4]-pdu:1-8,12` and `@alias`: one text, many targets. Pure.

/// Most targets of one request.
pub(super) const MAX_TARGETS: usize = 1024;

/// What one text means, before anybody has looked whether it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// An outlet of a PDU.
    Outlet(String, String),
    /// An alias.
    Alias(String),
}

/// Expands one text. A name for which `is_known` says true (`@` before an alias) is meant
/// literally. Fails with a sentence.
pub(super) fn expand(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Vec<Named>, String> {
    if let Some(alias) = text.strip_prefix('@') {
        let names = if is_known(text) {
            vec![alias.to_owned()]
        } else {
            brackets(alias)?
        };
        return Ok(names.into_iter().map(Named::Alias).collect());
    }
    // A PDU's name may be an address with a port: the last colon is ours.
    let (pdu, outlets) = text
        .rsplit_once(':')
        .filter(|(pdu, outlets)| !pdu.is_empty() && !outlets.is_empty())
        .ok_or_else(|| format!("{text:?}: expected <pdu>:<outlets> or @<alias>"))?;
    let pdus = if is_known(pdu) {
        vec![pdu.to_owned()]
    } else {
        brackets(pdu)?
    };
    let outlets = list(outlets)?;
    if pdus.len().saturating_mul(outlets.len()) > MAX_TARGETS {
        return Err(too_many());
    }
    Ok(pdus
        .iter()
        .flat_map(|pdu| {
            outlets
                .iter()
                .map(|outlet| Named::Outlet(pdu.clone(), outlet.clone()))
        })
        .collect())
}

/// The text with each `[…]` replaced by each of what it lists.
fn brackets(text: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = text.split_once('[') else {
        return Ok(vec![text.to_owned()]);
    };
    let (inner, after) = rest
        .split_once(']')
        .ok_or_else(|| format!("{text:?}: the bracket is not closed"))?;
    let (middles, ends) = (list(inner)?, brackets(after)?);
    if middles.len().saturating_mul(ends.len()) > MAX_TARGETS {
        return Err(too_many());
    }
    Ok(middles
        .iter()
        .flat_map(|middle| ends.iter().map(move |end| format!("{before}{middle}{end}")))
        .collect())
}

/// `1-8,12`: numbers, ranges of numbers, and names.
fn list(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for item in text.split(',') {
        if item.is_empty() {
            return Err(format!("{text:?}: expected something between the commas"));
        }
        match item.split_once('-').filter(|(first, last)| {
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits(first) && digits(last)
        }) {
            None => all.push(item.to_owned()),
            Some((first, last)) => all.extend(range(first, last)?),
        }
        if all.len() > MAX_TARGETS {
            return Err(too_many());
        }
    }
    Ok(all)
}

/// Every number from `first` to `last`, as wide as `first` is written.
fn range(first: &str, last: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{first}-{last}: expected a range that goes up");
    let (from, to): (u64, u64) = (
        first.parse().map_err(|_| wrong())?,
        last.parse().map_err(|_| wrong())?,
    );
    if from > to {
        return Err(wrong());
    }
    if to - from >= MAX_TARGETS as u64 {
        return Err(too_many());
    }
    let width = if first.starts_with('0') {
        first.len()
    } else {
        0
    };
    Ok((from..=to)
        .map(|number| format!("{number:0width$}"))
        .collect())
}

/// The sentence for a request that aims at too much.
pub(super) fn too_many() -> String {
    format!("expected at most {MAX_TARGETS} targets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let named = expand(text, |name| name == "odd[1-2]" || name == "@odd[1-2]")?;
        Ok(named
            .into_iter()
            .map(|named| match named {
                Named::Outlet(pdu, outlet) => format!("{pdu} {outlet}"),
                Named::Alias(alias) => format!("@{alias}"),
            })
            .collect())
    }

    #[test]
    fn ranges_expand() {
        let cases: &[(&str, &[&str])] = &[
            ("pdu:3", &["pdu 3"]),
            ("pdu:1-3,7", &["pdu 1", "pdu 2", "pdu 3", "pdu 7"]),
            ("pdu:left,a-b", &["pdu left", "pdu a-b"]),
            ("10.0.0.1:8000:4", &["10.0.0.1:8000 4"]),
            ("r[1-2]:1,2", &["r1 1", "r1 2", "r2 1", "r2 2"]),
            (
                "r[08-10,a]-x:1",
                &["r08-x 1", "r09-x 1", "r10-x 1", "ra-x 1"],
            ),
            ("r[1-2]u[3-4]:1", &["r1u3 1", "r1u4 1", "r2u3 1", "r2u4 1"]),
            ("odd[1-2]:1", &["odd[1-2] 1"]),
            ("@dut[1-2]", &["@dut1", "@dut2"]),
            ("@odd[1-2]", &["@odd[1-2]"]),
        ];
        for (text, expected) in cases {
            assert_eq!(
                read(text).as_deref(),
                Ok(*expected)
                    .map(|e: &[&str]| e.iter().map(|s| s.to_string()).collect::<Vec<_>>())
                    .as_deref(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "",
            "pdu",
            "pdu:",
            ":1",
            "pdu:1,",
            "pdu:5-1",
            "r[1-4:1",
            "pdu:0-1024",
            "pdu:1-99999999999999999999",
            "r[1-40]:1-40",
            "r[1-999]u[1-999]:1",
        ] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
