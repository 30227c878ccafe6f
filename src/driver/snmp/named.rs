//! snmpv1, snmpv2c and snmpv3: PDUs whose control object the config names, by an OID or by a MIB
//! module and an object in it.

use super::control::{Column, Control, Pattern, PerOutlet, Scalars, parse};
use super::mibs::{Mibs, SYSTEM_FOLDERS};
use super::objects::{self, Place};
use super::protocols::{Auth, Privacy};
use super::{COMMUNITY, SnmpPdu};
use crate::driver::{Driver, Host, Outlets};
use crate::settings::{
    Secret, Settings, SettingsError, TextOrList, TextOrNumber, Truth, Value, keys,
};
use crate::transport::snmp::{Access, Agent, Community, PORT, User, Version};
use std::borrow::Cow;
use std::path::PathBuf;

keys! {
    /// The keys that name the control object.
    struct Object {
        onsetting: i32, "the INTEGER that switches on";
        offsetting: i32, "the INTEGER that switches off";
        oid: Option<String>,
            "the control object's OID with * for the outlet; instead of mib and controlpoint";
        mib: Option<String>,
            "the MIB module of controlpoint: a well-known one, or one with a MIB file on this \
             machine";
        controlpoint: Option<String>,
            "the control object's name; the outlet is its index, after a 1 (with Eaton's: 0) for \
             each index that the outlet does not give";
        inside_number: Truth = false,
            "the outlet replaces the * in controlpoint, and the index is static_ending";
        static_ending: u32 = 0, "the index with inside_number";
        mib_path: Option<TextOrList>,
            "folders with MIB files, separated by colons, searched before the system's";
        varbinds: Varbinds = 1, VARBINDS;
    }
}

/// What the key `varbinds` is for.
const VARBINDS: &str = "so many outlets in one request, as many as the PDU can bear";

keys! {
    pub(super) struct V1 {
        ..v2c: V2c;
        version: Versions, "speak only that; without it v2c is tried first, then v1";
    }
}

keys! {
    pub(super) struct V2c {
        ..host: Host;
        community: Secret, COMMUNITY;
        ..object: Object;
    }
}

keys! {
    pub(super) struct V3 {
        ..host: Host;
        username: TextOrNumber, "the user";
        ..signing: Signing;
        ..object: Object;
    }
}

keys! {
    /// How the messages of a user are signed and encrypted.
    struct Signing {
        authpassphrase: Passphrase, "signs messages";
        privpassphrase: Passphrase, "encrypts messages; only with authpassphrase";
        auth_protocol: Auth = "USM_AUTH_HMAC96_MD5",
            "how messages are signed; pysnmp's usm... names and MD5, SHA, SHA224, SHA256, SHA384 and \
             SHA512 mean the same";
        priv_protocol: Privacy = "USM_PRIV_CBC56_DES",
            "how messages are encrypted (AES192 and AES256 with Cisco's key extension or Blumenthal's); \
             pysnmp's usm... names and DES, AES, and Blumenthal's AES192 and AES256 mean the same";
    }
}

keys! {
    /// Where the agent of a profile is, and whom it answers.
    pub(super) struct Reach {
        ..host: Host;
        community: Option<Secret>,
            "the community that may write; required where there is no username";
        version: Versions, "speak only that; without it v2c is tried first, then v1";
        username: Option<TextOrNumber>, "the SNMPv3 user; without it the community is used";
        varbinds: Option<Varbinds> => "what the profile says, or 1", VARBINDS;
        ..signing: Signing;
    }
}

impl Reach {
    /// A session with the agent.
    pub(super) fn session(&self, settings: &Settings) -> Result<Agent, SettingsError> {
        let is_given = |text: &&str| !text.is_empty();
        let community = self.community.as_ref().map(Secret::reveal).filter(is_given);
        let access = match (self.username.as_deref().filter(is_given), community) {
            (Some(name), _) => Access::User(user(settings, name, &self.signing)?),
            (None, Some(community)) => Access::Community(Community::new(community, self.version.0)),
            (None, None) => {
                let expected = "required, the community that may write; or a username";
                return Err(settings.error("community", expected));
            }
        };
        let address = self.host.address(settings, PORT)?;
        Ok(Agent::new(address.host, address.port, access))
    }

    /// So many objects in one request, where the settings say it.
    pub(super) fn varbinds(&self) -> Option<usize> {
        self.varbinds.map(|varbinds| varbinds.0)
    }
}

/// A passphrase, where there is one.
struct Passphrase(Option<Secret>);

impl Value for Passphrase {
    const KIND: &'static str = Secret::KIND;
    const IS_SECRET: bool = true;

    fn range() -> Cow<'static, str> {
        "at least 8 characters".into()
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let secret = Secret::read(json)?;
        match secret.reveal().chars().count() {
            0 => Ok(Self(None)),
            // RFC 3414, section 11.2.
            1..8 => Err("expected at least 8 characters".to_owned()),
            _ => Ok(Self(Some(secret))),
        }
    }
}

/// So many objects in one request.
#[derive(Clone, Copy)]
struct Varbinds(usize);

impl Value for Varbinds {
    const KIND: &'static str = "number";

    fn range() -> Cow<'static, str> {
        "1 to 128".into()
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let number = u8::read(json)?;
        match number {
            1..=128 => Ok(Self(number.into())),
            _ => Err(format!("expected 1 to 128, got {number}")),
        }
    }
}

/// The versions to speak, in the order in which they are tried.
struct Versions(&'static [Version]);

impl Value for Versions {
    const KIND: &'static str = TextOrNumber::KIND;

    fn range() -> Cow<'static, str> {
        "1 or 2c".into()
    }

    fn absent() -> Option<Self> {
        Some(Self(&[Version::V2c, Version::V1]))
    }

    fn read(json: &serde_json::Value) -> Result<Self, String> {
        let text = TextOrNumber::read(json)?.to_ascii_lowercase();
        match text.trim_start_matches('v') {
            "1" => Ok(Self(&[Version::V1])),
            "2c" | "2" => Ok(Self(&[Version::V2c])),
            other => Err(format!("expected 1 or 2c, got {other:?}")),
        }
    }
}

pub(super) fn build_v1(
    keys: V1,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    by_community(&keys.v2c, settings, keys.version.0)
}

pub(super) fn build_v2c(
    keys: V2c,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    by_community(&keys, settings, &[Version::V2c])
}

fn by_community(
    keys: &V2c,
    settings: &Settings,
    versions: &[Version],
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let community = Community::new(keys.community.reveal(), versions);
    build(
        settings,
        &keys.host,
        &keys.object,
        Access::Community(community),
    )
}

pub(super) fn build_v3(
    keys: V3,
    settings: &Settings,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let access = Access::User(user(settings, &keys.username, &keys.signing)?);
    build(settings, &keys.host, &keys.object, access)
}

/// The user of `keys`. As in the Python program a protocol is used only with its passphrase, and a
/// passphrase without a protocol means MD5 and DES.
fn user(settings: &Settings, name: &str, keys: &Signing) -> Result<User, SettingsError> {
    let mut user = User::new(name);
    let is_signed = match (keys.auth_protocol.0, &keys.authpassphrase.0) {
        (Some(protocol), Some(passphrase)) => {
            user = user.signed(protocol, passphrase.reveal());
            true
        }
        _ => false,
    };
    match (keys.priv_protocol, &keys.privpassphrase.0) {
        (_, None) | (Privacy::None, _) => Ok(user),
        (Privacy::TripleDes, Some(_)) => Err(settings.error(
            "priv_protocol",
            "3DES is not offered: expected USM_PRIV_CBC56_DES or one of AES",
        )),
        (Privacy::Cipher(..), Some(_)) if !is_signed => Err(settings.error(
            "privpassphrase",
            "encryption needs authentication: expected an authpassphrase as well",
        )),
        (Privacy::Cipher(cipher, extension), Some(passphrase)) => {
            Ok(user.encrypted(cipher, extension, passphrase.reveal()))
        }
    }
}

fn build(
    settings: &Settings,
    host: &Host,
    object: &Object,
    access: Access,
) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let address = host.address(settings, PORT)?;
    Ok(SnmpPdu::build(
        Agent::new(address.host, address.port, access),
        control(settings, object)?,
        object.varbinds.0,
    ))
}

fn control(settings: &Settings, keys: &Object) -> Result<Control, SettingsError> {
    let values = (i64::from(keys.onsetting), i64::from(keys.offsetting));
    match (&keys.oid, &keys.mib, &keys.controlpoint) {
        (Some(_), Some(_), _) => {
            Err(settings.error("oid", "expected either oid, or mib and controlpoint"))
        }
        (Some(oid), None, _) => {
            if parse(&oid.replace('*', "1")).is_none() {
                return Err(settings.error(
                    "oid",
                    format!("expected numbers and * joined by dots, got {oid:?}"),
                ));
            }
            Ok(Control::Pattern(Pattern {
                text: oid.clone(),
                values,
            }))
        }
        (None, Some(mib), Some(name)) if keys.inside_number.0 => {
            Ok(Control::Scalars(Scalars {
                objects: per_outlet(settings, keys, mib, name)?,
                // A scalar's only instance is 0, and no PDU has another.
                ending: keys.static_ending,
                values,
            }))
        }
        (None, Some(mib), Some(name)) => {
            if let Some(object) = objects::named(mib, name)
                && let Place::List = object.place
            {
                let oid = object.oid.to_vec();
                return Ok(Control::List { oid, values });
            }
            column(settings, keys, mib, name, values).map(Control::Column)
        }
        (None, Some(_), None) => Err(settings.error("mib", "expected a controlpoint beside it")),
        (None, None, _) => Err(settings.error(
            "oid",
            "required: the control object's OID, or else mib and controlpoint",
        )),
    }
}

fn column(
    settings: &Settings,
    keys: &Object,
    mib: &str,
    name: &str,
    values: (i64, i64),
) -> Result<Column, SettingsError> {
    let Some(object) = objects::named(mib, name) else {
        let found = files(keys)
            .find(mib, name)
            .map_err(|missing| unknown(settings, mib, &missing))?;
        return Ok(Column {
            oids: (found.oid.clone(), found.oid),
            values,
            // A table's index begins with unit, bank or group 1 where there are several.
            index: found.indices.map(|count| vec![1; count.saturating_sub(1)]),
        });
    };
    let (oids, index) = match object.place {
        Place::Index(index) => ((object.oid.to_vec(), object.oid.to_vec()), index),
        Place::List => ((object.oid.to_vec(), object.oid.to_vec()), &[][..]),
        Place::OnOff { index, on, off } => {
            for (key, value) in [("onsetting", values.0), ("offsetting", values.1)] {
                if value < 0 {
                    return Err(settings.error(
                        key,
                        "expected the delay in seconds, 0 for at once: the PDU has an object to \
                         switch on and one to switch off",
                    ));
                }
            }
            let table = object.oid.split_last().map_or(&[][..], |(_, table)| table);
            (([table, &[on]].concat(), [table, &[off]].concat()), index)
        }
        Place::Scalar { .. } => {
            return Err(settings.error(
                "controlpoint",
                format!("{name} is one object per outlet: expected inside_number as well"),
            ));
        }
    };
    Ok(Column {
        oids,
        values,
        index: Some(index.to_vec()),
    })
}

fn per_outlet(
    settings: &Settings,
    keys: &Object,
    mib: &str,
    name: &str,
) -> Result<PerOutlet, SettingsError> {
    if let Some(object) = objects::named(mib, name) {
        return Ok(match object.place {
            Place::Scalar { .. } => PerOutlet::Known(object),
            Place::Index(_) | Place::OnOff { .. } | Place::List => {
                PerOutlet::One(object.oid.to_vec())
            }
        });
    }
    let mut files = files(keys);
    let mut find = |name: &str| {
        files
            .find(mib, name)
            .map_err(|missing| unknown(settings, mib, &missing))
    };
    if !name.contains('*') {
        return Ok(PerOutlet::One(find(name)?.oid));
    }
    let numbered = files
        .numbered(mib, name)
        .map_err(|missing| unknown(settings, mib, &missing))?;
    if numbered.is_empty() {
        return Err(unknown(
            settings,
            mib,
            &format!("the MIB file of {mib} defines no {name}"),
        ));
    }
    numbered
        .into_iter()
        .map(|(number, name)| match files.find(mib, &name) {
            Ok(found) => Ok((number, found.oid)),
            Err(missing) => Err(unknown(settings, mib, &missing)),
        })
        .collect::<Result<_, _>>()
        .map(PerOutlet::Listed)
}

fn unknown(settings: &Settings, mib: &str, missing: &str) -> SettingsError {
    let known: Vec<&str> = objects::OBJECTS
        .iter()
        .filter(|object| object.mib == mib)
        .map(|object| object.name)
        .collect();
    let known = if known.is_empty() {
        String::new()
    } else {
        format!("; known without a file: {}", known.join(", "))
    };
    settings.error(
        "controlpoint",
        format!("{missing}{known}; give the control object as oid, with * for the outlet"),
    )
}

/// MIB files in the config's folders and the system's.
fn files(keys: &Object) -> Mibs {
    let own: Vec<&str> = match &keys.mib_path {
        None => Vec::new(),
        Some(TextOrList::Text(text)) => text.split(':').collect(),
        Some(TextOrList::List(list)) => list.iter().map(String::as_str).collect(),
    };
    let home = std::env::var("HOME").unwrap_or_default();
    Mibs::new(
        own.into_iter()
            .chain(SYSTEM_FOLDERS.iter().copied())
            .filter(|folder| !folder.is_empty())
            .map(|folder| match folder.strip_prefix("~/") {
                Some(below) => PathBuf::from(&home).join(below),
                None => PathBuf::from(folder),
            }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::By;
    use crate::driver::DriverError;
    use crate::request::{Outlet, PduName};
    use crate::settings::Position;

    fn settings(keys: serde_json::Value) -> Settings {
        let mut all = serde_json::json!({
            "community": "private", "username": "operator", "onsetting": 1, "offsetting": "2",
        });
        if let (Some(all), serde_json::Value::Object(keys)) = (all.as_object_mut(), keys) {
            all.extend(keys);
        }
        let start = Position { line: 1, column: 1 };
        Settings::new(PduName::new("pdu"), "snmpv1", all.to_string(), start)
    }

    /// The OIDs that switch on and off and tell the state, of one outlet.
    fn oids(keys: serde_json::Value, outlet: &str) -> Result<Vec<String>, String> {
        let settings = settings(keys);
        let keys: Object = settings.keys().map_err(|error| error.to_string())?;
        let control = control(&settings, &keys).map_err(|error| error.to_string())?;
        let plan = control
            .plan(&Outlet::new(outlet))
            .map_err(|error: DriverError| error.to_string())?;
        let mut oids = vec![plan.on.0.to_string(), plan.off.0.to_string()];
        oids.extend(plan.readings.iter().map(|reading| reading.oid.to_string()));
        Ok(oids)
    }

    #[test]
    fn outlets_go_where_the_config_says() {
        let oid = |oid: &str| serde_json::json!({ "oid": oid });
        let one = |oid: &str| Ok(vec![oid.to_owned(); 3]);
        assert_eq!(oids(oid("1.3.6.1.99.*"), "04"), one("1.3.6.1.99.4"));
        assert_eq!(
            oids(oid(".1.3.6.1.99.*.0"), "1.2.3"),
            one("1.3.6.1.99.1.2.3.0")
        );
        assert_eq!(oids(oid("1.3.6.1.99.*.*"), "7"), one("1.3.6.1.99.7.7"));
        assert_eq!(oids(oid("1.3.6.1.99.1*"), "7"), one("1.3.6.1.99.17"));
        assert_eq!(oids(oid("1.3.6.1.99.1"), "any"), one("1.3.6.1.99.1"));
        for bad in [
            "",
            "a",
            "1.",
            ".1",
            "1..2",
            "-1",
            "4294967296",
            "1;reboot",
            " 1",
        ] {
            assert!(oids(oid("1.3.6.1.99.*"), bad).is_err(), "{bad:?}");
        }
        for bad in ["", "1", "1.3.x", "3.1.2", "1.40.1", "1.3.6.1.99.", "..1.3"] {
            assert!(oids(oid(bad), "1").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn well_known_names_need_no_file() {
        let named = |mib: &str, name: &str| serde_json::json!({"mib": mib, "controlpoint": name});
        let mut rpdu2 = named("PowerNet-MIB", "rPDU2OutletSwitchedControlCommand");
        let control = "1.3.6.1.4.1.318.1.1.26.9.2.4.1.5.24";
        let status = "1.3.6.1.4.1.318.1.1.26.9.2.3.1.5.24";
        let expected = Ok([control, control, status, control]
            .map(str::to_owned)
            .to_vec());
        assert_eq!(oids(rpdu2.clone(), "24"), expected);
        rpdu2["inside_number"] = false.into();
        assert_eq!(oids(rpdu2, "24"), expected);
        let hp = oids(named("CPQPOWER-MIB", "pdu2OutletControlOffCmd"), "5");
        let base = "1.3.6.1.4.1.232.165.7.5.2.1";
        assert_eq!(
            hp,
            Ok([3, 2, 1]
                .map(|object| format!("{base}.{object}.1.5"))
                .to_vec())
        );
        let mut eaton = named("EATON-EPDU-MIB", "outletControlOffCmd");
        eaton["offsetting"] = (-1).into();
        assert!(oids(eaton, "1").is_err_and(|error| error.starts_with("offsetting:")));
        let mut aten = named("ATEN-PE-CFG", "outlet*Status");
        assert!(oids(aten.clone(), "9").is_err_and(|error| error.contains("inside_number")));
        aten["inside_number"] = 1.into();
        let scalar = "1.3.6.1.4.1.21317.1.3.2.2.2.2.11.0".to_owned();
        assert_eq!(
            oids(aten.clone(), "9").map(|oids| oids.first().cloned()),
            Ok(Some(scalar))
        );
        assert!(oids(aten, "31").is_err());
        let lost = oids(named("PowerNet-MIB", "sPDUOutletCtrl"), "1").expect_err("no such name");
        for part in ["PowerNet-MIB", "sPDUOutletCtl", "oid"] {
            assert!(lost.contains(part), "{lost}");
        }
    }

    #[test]
    fn other_names_come_from_mib_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let mib = "LAB-MIB DEFINITIONS ::= BEGIN IMPORTS enterprises FROM SNMPv2-SMI;
            lab OBJECT IDENTIFIER ::= { enterprises 9999 }
            e OBJECT-TYPE SYNTAX E INDEX { a, b } ::= { lab 1 }
            switch OBJECT-TYPE SYNTAX INTEGER ::= { e 2 }
            relay1 OBJECT-TYPE SYNTAX INTEGER ::= { lab 5 }
            relay2 OBJECT-TYPE SYNTAX INTEGER ::= { lab 6 }
            END";
        std::fs::write(folder.path().join("LAB-MIB.txt"), mib).expect("written");
        let path = folder.path().display().to_string();
        let mut keys =
            serde_json::json!({"mib": "LAB-MIB", "controlpoint": "switch", "mib_path": path});
        let first = |keys: &serde_json::Value, outlet: &str| {
            oids(keys.clone(), outlet).map(|oids| oids.first().cloned().unwrap_or_default())
        };
        assert_eq!(first(&keys, "4"), Ok("1.3.6.1.4.1.9999.1.2.1.4".into()));
        assert_eq!(first(&keys, "2.4"), Ok("1.3.6.1.4.1.9999.1.2.2.4".into()));
        assert!(first(&keys, "1.2.4").is_err());
        keys["mib_path"] = serde_json::json!([path]);
        keys["controlpoint"] = "relay*".into();
        keys["inside_number"] = "false".into();
        assert_eq!(first(&keys, "2"), Ok("1.3.6.1.4.1.9999.6.0".into()));
        assert!(first(&keys, "3").is_err_and(|error| error.contains("outlets 1 to 2")));
        keys["controlpoint"] = "relay1".into();
        keys["static_ending"] = "7".into();
        assert_eq!(first(&keys, "any"), Ok("1.3.6.1.4.1.9999.5.7".into()));
        keys["controlpoint"] = "valve*".into();
        assert!(first(&keys, "1").is_err_and(|error| error.contains("valve*")));
    }

    #[test]
    fn settings_that_cannot_work_name_their_key() {
        let oid = || serde_json::json!({"oid": "1.3.6.1.99.*"});
        let with = |key: &str, value: serde_json::Value| {
            let mut keys = oid();
            keys[key] = value;
            settings(keys)
        };
        let key = |result: Result<(Box<dyn Driver>, Outlets), SettingsError>| match result {
            Ok(_) => "none".to_owned(),
            Err(error) => error.key.unwrap_or(error.message),
        };
        let null = serde_json::Value::Null;
        assert_eq!(key(By(build_v1).of(&settings(oid()))), "none");
        assert_eq!(
            key(By(build_v1).of(&with("community", null.clone()))),
            "community"
        );
        assert_eq!(
            key(By(build_v1).of(&with("version", "3".into()))),
            "version"
        );
        assert_eq!(key(By(build_v1).of(&with("version", "v2c".into()))), "none");
        assert_eq!(
            key(By(build_v1).of(&with("onsetting", "x".into()))),
            "onsetting"
        );
        assert_eq!(key(By(build_v1).of(&with("mib", "IF-MIB".into()))), "oid");
        assert_eq!(key(By(build_v1).of(&with("oid", null.clone()))), "oid");
        assert_eq!(key(By(build_v3).of(&settings(oid()))), "none");
        assert_eq!(key(By(build_v3).of(&with("username", null))), "username");
        assert_eq!(
            key(By(build_v3).of(&with("authpassphrase", "short".into()))),
            "authpassphrase"
        );
        assert_eq!(
            key(By(build_v3).of(&with("privpassphrase", "long enough".into()))),
            "privpassphrase"
        );
        assert_eq!(
            key(By(build_v3).of(&with("auth_protocol", "SHA3".into()))),
            "auth_protocol"
        );
        let mut keys = oid();
        keys["authpassphrase"] = "long enough".into();
        keys["privpassphrase"] = "long enough".into();
        keys["priv_protocol"] = "usm3DESEDEPrivProtocol".into();
        let error = By(build_v3).of(&settings(keys)).err().expect("3DES");
        assert!(error.message.contains("3DES") && error.key.as_deref() == Some("priv_protocol"));
    }
}
