//! What the numbers of a BMC mean for a person.

/// A completion code as `insufficient privilege (d4)`.
pub fn completion(code: u8) -> String {
    let words = match code {
        0xc0 => "the BMC is busy",
        0xc1 => "the BMC does not know this command",
        0xc3 => "the BMC ran out of time",
        0xc4 => "the BMC is out of space",
        0xc7 | 0xc8 => "the BMC wants another length of data",
        0xc9 | 0xcc => "the BMC does not take these data",
        0xcb => "the BMC does not have what was asked for",
        0xce => "the BMC cannot answer",
        0xcf => "the BMC had this request already",
        0xd0 => "the BMC's records are being updated",
        0xd1 => "the BMC's firmware is being updated",
        0xd2 => "the BMC is starting",
        0xd3 => "the BMC cannot reach it",
        0xd4 => "the session's privilege is not enough",
        0xd5 => "not possible in the present state",
        0xd6 => "the BMC has this function disabled",
        0xff => "the BMC tells no reason",
        0x80..=0xbe => "this command's own error",
        _ => "an error that no specification names",
    };
    format!("{words} (completion code {code:02x})")
}

/// Is the command certainly not carried out, and will it never be?
pub(super) fn is_refusal(code: u8) -> bool {
    !matches!(code, 0xc0 | 0xc3 | 0xc4 | 0xce..=0xd3 | 0xff)
}

/// A status of the login of IPMI 2.0 as `invalid role (09)`.
pub(super) fn status(status: u8) -> String {
    let words = match status {
        0x01 => "no room for a session",
        0x02 => "invalid session id",
        0x03 => "invalid payload type",
        0x04 => "invalid authentication algorithm",
        0x05 => "invalid integrity algorithm",
        0x06 => "no matching authentication payload",
        0x07 => "no matching integrity payload",
        0x08 => "inactive session id",
        0x09 => "invalid role",
        0x0a => "unauthorized role or privilege level",
        0x0b => "no room for a session of this role",
        0x0c => "invalid name length",
        0x0d => "unauthorized name",
        0x0e => "unauthorized GUID",
        0x0f => "invalid integrity check value",
        0x10 => "invalid confidentiality algorithm",
        0x11 => "no matching cipher suite",
        0x12 => "invalid parameter",
        _ => "a status that no specification names",
    };
    format!("{words} (status {status:02x})")
}
