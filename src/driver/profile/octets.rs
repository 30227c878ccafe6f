//! Bytes with holes, as `A0 {outlet:02x} 01 {sum8}`: hexadecimal pairs, quoted texts and checksums.

use super::holes::{Fillings, Place, Template};
use super::script;

/// Bytes as a profile writes them.
#[derive(Clone, Debug)]
pub(crate) struct Octets(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    /// Hexadecimal pairs.
    Pairs(Template),
    /// The bytes of a text.
    Text(Template),
    /// A checksum of all bytes before it.
    Sum(Sum),
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Sum8,
    Xor8,
    /// The low byte first.
    Crc16Modbus,
}

impl Octets {
    /// Reads `text`; `hole` takes each template that has been read, to look at its holes.
    pub(super) fn parse(
        text: &str,
        mut hole: impl FnMut(&Template, Place) -> Result<(), String>,
    ) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text.trim());
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let (inside, behind) = quoted.split_once('"').ok_or("a quoted text has no end")?;
                let template = Template::parse(inside, Place::Line)?;
                hole(&template, Place::Line)?;
                pieces.push(Piece::Text(template));
                rest = behind.trim_start();
                continue;
            }
            let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            pieces.push(match word {
                "{sum8}" => Piece::Sum(Sum::Sum8),
                "{xor8}" => Piece::Sum(Sum::Xor8),
                "{crc16_modbus}" => Piece::Sum(Sum::Crc16Modbus),
                word => {
                    let template = Template::parse(word, Place::Hex)?;
                    hole(&template, Place::Hex)?;
                    Piece::Pairs(template)
                }
            });
            rest = behind.trim_start();
        }
        match pieces.is_empty() {
            true => Err("expected bytes, as A0 01".to_owned()),
            false => Ok(Self(pieces)),
        }
    }

    /// The bytes with their holes filled.
    pub(crate) fn bytes(&self, fillings: &Fillings) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bytes.extend(text.fill(fillings)?.as_bytes()),
                Piece::Pairs(pairs) => {
                    let pairs = pairs.fill(fillings)?;
                    let read = script::hex(&pairs);
                    bytes.extend(read.ok_or_else(|| format!("no hexadecimal bytes: {pairs:?}"))?);
                }
                Piece::Sum(sum) => bytes.extend(sum.of(&bytes)),
            }
        }
        Ok(bytes)
    }
}

impl Sum {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sum8 => vec![
                bytes
                    .iter()
                    .fold(0, |sum: u8, byte| sum.wrapping_add(*byte)),
            ],
            Self::Xor8 => vec![bytes.iter().fold(0, |sum, byte| sum ^ byte)],
            Self::Crc16Modbus => {
                let crc = bytes.iter().fold(0xffff_u16, |crc, byte| {
                    (0..8).fold(crc ^ u16::from(*byte), |crc, _| match crc & 1 {
                        0 => crc >> 1,
                        _ => (crc >> 1) ^ 0xa001,
                    })
                });
                crc.to_le_bytes().to_vec()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::profile::holes::Filling;

    #[test]
    fn bytes_are_pairs_texts_and_checksums() {
        let fillings = Fillings::from([("outlet".to_owned(), Filling::Number(10))]);
        let bytes = |text: &str| Octets::parse(text, |_, _| Ok(()))?.bytes(&fillings);
        for (text, expected) in [
            ("A0 {outlet:02x} 01 {sum8}", &b"\xa0\x0a\x01\xab"[..]),
            ("a00a01 {xor8}", b"\xa0\x0a\x01\xab"),
            ("\"on {outlet}\" 0d 0a", b"on 10\r\n"),
            // The example of the Modbus specification's readers: 01 03 00 00 00 01.
            (
                "01 03 00 00 00 01 {crc16_modbus}",
                b"\x01\x03\x00\x00\x00\x01\x84\x0a",
            ),
        ] {
            assert_eq!(bytes(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "A", "A0 zz", "\"on", "{outlet}", "{outlet:01x}"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
