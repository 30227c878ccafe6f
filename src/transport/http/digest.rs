//! Answers to `WWW-Authenticate`: digest access authentication (RFC 7616, and RFC 2069 where a
//! server offers no `qop`), or Basic.

use md5::Md5;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// What a server wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Digest(Digest),
}

/// One digest challenge, with the count of its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    algorithm: Algorithm,
    /// As the server wrote it, to be sent back.
    algorithm_name: Option<String>,
    session: bool,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    with_qop: bool,
    count: u32,
}

/// In order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn hash(self, text: &str) -> String {
        let bytes = match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Challenge {
    /// The strongest challenge that can be answered, of all the header's values.
    pub(super) fn strongest<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        headers
            .flat_map(parse)
            .filter_map(|(scheme, parameters)| match scheme.as_str() {
                "basic" => Some(Self::Basic),
                "digest" => Digest::new(&parameters).map(Self::Digest),
                _ => None,
            })
            .max_by_key(Self::strength)
    }

    fn strength(&self) -> Option<Algorithm> {
        match self {
            Self::Basic => None,
            Self::Digest(digest) => Some(digest.algorithm),
        }
    }
}

impl Digest {
    fn new(parameters: &HashMap<String, String>) -> Option<Self> {
        let algorithm_name = parameters.get("algorithm").cloned();
        let lower = algorithm_name
            .as_deref()
            .unwrap_or("md5")
            .to_ascii_lowercase();
        let (plain, session) = match lower.strip_suffix("-sess") {
            Some(plain) => (plain, true),
            None => (lower.as_str(), false),
        };
        let algorithm = match plain {
            "md5" => Algorithm::Md5,
            "sha-256" => Algorithm::Sha256,
            _ => return None,
        };
        let with_qop = match parameters.get("qop") {
            None => false,
            Some(offers) => {
                let mut offers = offers.split(',').map(str::trim);
                if !offers.any(|offer| offer.eq_ignore_ascii_case("auth")) {
                    return None;
                }
                true
            }
        };
        Some(Self {
            algorithm,
            algorithm_name,
            session,
            realm: parameters.get("realm")?.clone(),
            nonce: parameters.get("nonce")?.clone(),
            opaque: parameters.get("opaque").cloned(),
            with_qop,
            count: 0,
        })
    }

    /// The `Authorization` value for the next request.
    pub(super) fn answer(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        target: &str,
    ) -> String {
        // Not a secret, only never the same: std's random state is seeded by the system.
        let cnonce: String = (0..2)
            .map(|_| format!("{:016x}", RandomState::new().build_hasher().finish()))
            .collect();
        self.answer_with(user, password, method, target, &cnonce)
    }

    fn answer_with(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        target: &str,
        cnonce: &str,
    ) -> String {
        self.count = self.count.wrapping_add(1);
        let hash = |text: String| self.algorithm.hash(&text);
        let (realm, nonce) = (&self.realm, &self.nonce);
        let mut ha1 = hash(format!("{user}:{realm}:{password}"));
        if self.session {
            ha1 = hash(format!("{ha1}:{nonce}:{cnonce}"));
        }
        let ha2 = hash(format!("{method}:{target}"));
        let count = format!("{:08x}", self.count);
        let response = if self.with_qop {
            hash(format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"))
        } else {
            hash(format!("{ha1}:{nonce}:{ha2}"))
        };
        let mut answer = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            quoted(target),
        );
        if let Some(opaque) = &self.opaque {
            answer.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        if let Some(name) = &self.algorithm_name {
            answer.push_str(&format!(", algorithm={name}"));
        }
        if self.with_qop {
            answer.push_str(&format!(", qop=auth, nc={count}"));
        }
        if self.with_qop || self.session {
            answer.push_str(&format!(", cnonce=\"{cnonce}\""));
        }
        answer
    }
}

/// The part of an answer's value that comes from the password.
pub(super) fn proof(answer: &str) -> Option<&str> {
    let (_, after) = answer.split_once(" response=\"")?;
    after.split('"').next()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The challenges of one header value: scheme and parameters, names in lower case.
fn parse(header: &str) -> Vec<(String, HashMap<String, String>)> {
    let mut challenges: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([',', ' ', '\t', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if rest.is_empty() {
            return challenges;
        }
        let after = after.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            challenges.push((word.to_ascii_lowercase(), HashMap::new()));
            rest = after;
            continue;
        };
        let (value, after) = read_value(value.trim_start_matches([' ', '\t']));
        if let Some((_, parameters)) = challenges.last_mut() {
            parameters.insert(word.to_ascii_lowercase(), value);
        }
        rest = after;
    }
}

/// A token or a quoted string, and what follows it.
fn read_value(text: &str) -> (String, &str) {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return (value.to_owned(), rest);
    };
    let (mut value, mut chars) = (String::new(), inside.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            other => value.push(other),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616, section 3.9.1.
    const MD5_OFFER: &str = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn answer(headers: &[&str], user: &str, password: &str, target: &str, cnonce: &str) -> String {
        match Challenge::strongest(headers.iter().copied()) {
            Some(Challenge::Digest(mut digest)) => {
                digest.answer_with(user, password, "GET", target, cnonce)
            }
            other => panic!("expected a digest challenge, got {other:?}"),
        }
    }

    fn rfc(headers: &[&str]) -> String {
        answer(
            headers,
            "Mufasa",
            "Circle of Life",
            "/dir/index.html",
            CNONCE,
        )
    }

    #[test]
    fn rfc_7616_md5() {
        assert_eq!(
            rfc(&[MD5_OFFER]),
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
             response=\"8ca523f5e9506fed4657c9700eebdbec\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", algorithm=MD5, qop=auth, \
             nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\""
        );
    }

    #[test]
    fn rfc_7616_sha_256_is_the_stronger_offer_in_any_order() {
        let sha = MD5_OFFER.replace("algorithm=MD5", "algorithm=SHA-256");
        let response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        for offers in [[sha.as_str(), MD5_OFFER], [MD5_OFFER, sha.as_str()]] {
            let answer = rfc(&offers);
            assert!(answer.contains(response), "{answer}");
            assert!(answer.contains("algorithm=SHA-256"), "{answer}");
        }
        let both = format!("Basic realm=\"x\", {MD5_OFFER}, {sha}");
        assert!(rfc(&[&both]).contains(response));
    }

    /// RFC 2617, section 3.5, and the same as RFC 2069 computes it.
    #[test]
    fn rfc_2617_and_2069() {
        let with_qop = r#"Digest realm="testrealm@host.com",qop="auth,auth-int",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let check = |offer: &str, response: &str| {
            let answer = answer(
                &[offer],
                "Mufasa",
                "Circle Of Life",
                "/dir/index.html",
                "0a4f113b",
            );
            assert!(answer.contains(response), "{answer}");
            assert!(!answer.contains("algorithm"), "{answer}");
        };
        check(with_qop, "6629fae49393a05397450978507c4ef1");
        check(
            &with_qop.replace("qop=\"auth,auth-int\",", ""),
            "670fd8c2df070c60b045671b8b24ff02",
        );
    }

    #[test]
    fn each_answer_to_one_nonce_counts() {
        let Some(Challenge::Digest(mut digest)) = Challenge::strongest([MD5_OFFER].into_iter())
        else {
            panic!("no digest");
        };
        let (first, second) = (
            digest.answer("u", "p", "GET", "/"),
            digest.answer("u", "p", "GET", "/"),
        );
        assert!(first.contains("nc=00000001") && second.contains("nc=00000002"));
        assert!(proof(&first).is_some_and(|proof| proof.len() == 32));
        assert_ne!(proof(&first), proof(&second));
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for header in [
            "",
            "Negotiate",
            "Negotiate abc==",
            "Digest",
            "Digest realm=\"x",
            r#"Digest realm="r", nonce="n", qop="auth-int""#,
            r#"Digest realm="r", nonce="n", algorithm=SHA-512-256"#,
            "====,,,\"",
        ] {
            assert_eq!(Challenge::strongest([header].into_iter()), None, "{header}");
        }
        assert_eq!(
            Challenge::strongest(["BASIC realm=x"].into_iter()),
            Some(Challenge::Basic)
        );
    }
}
