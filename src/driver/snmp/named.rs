//! snmpv1, snmpv2c and snmpv3: PDUs whose control object the config names, by an OID or by a MIB
//! module and an object in it.

use super::SnmpPdu;
use super::control::{Column, Control, Pattern, PerOutlet, Scalars, parse};
use super::mibs::{Mibs, SYSTEM_FOLDERS};
use super::objects::{self, Place};
use super::protocols::{self, Privacy};
use crate::driver::{Driver, Outlets};
use crate::settings::{self, Secret, Settings, SettingsError};
use crate::transport::snmp::{
    Access, AuthProtocol, Cipher, Community, KeyExtension, PORT, Session, User, Version,
};
use serde::Deserialize;
use std::path::PathBuf;

/// The keys that name the control object.
#[derive(Deserialize)]
struct Keys {
    #[serde(deserialize_with = "settings::number")]
    onsetting: i32,
    #[serde(deserialize_with = "settings::number")]
    offsetting: i32,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    mib: Option<String>,
    #[serde(default)]
    controlpoint: Option<String>,
    #[serde(default)]
    inside_number: serde_json::Value,
    #[serde(default, deserialize_with = "settings::maybe_number")]
    static_ending: Option<u32>,
    #[serde(default)]
    mib_path: Option<Folders>,
}

/// Folders as one text with colons, or as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Folders {
    Text(String),
    List(Vec<String>),
}

#[derive(Deserialize)]
struct CommunityKeys {
    #[serde(default)]
    community: Option<Secret>,
    #[serde(default, deserialize_with = "settings::maybe_text")]
    version: Option<String>,
}

#[derive(Deserialize)]
struct UserKeys {
    #[serde(default, deserialize_with = "settings::maybe_text")]
    username: Option<String>,
    #[serde(default)]
    authpassphrase: Option<Secret>,
    #[serde(default)]
    privpassphrase: Option<Secret>,
    #[serde(default)]
    auth_protocol: Option<String>,
    #[serde(default)]
    priv_protocol: Option<String>,
}

pub(super) fn build_v1(settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let keys: CommunityKeys = settings.read()?;
    let version = keys.version.as_deref().map(str::to_ascii_lowercase);
    let versions: &[Version] = match version.as_deref().map(|v| v.trim_start_matches('v')) {
        None => &[Version::V2c, Version::V1],
        Some("1") => &[Version::V1],
        Some("2c" | "2") => &[Version::V2c],
        Some(other) => {
            return Err(settings.error("version", format!("expected 1 or 2c, got {other:?}")));
        }
    };
    build(settings, community(settings, keys, versions)?)
}

pub(super) fn build_v2c(settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let keys: CommunityKeys = settings.read()?;
    build(settings, community(settings, keys, &[Version::V2c])?)
}

fn community(
    settings: &Settings,
    keys: CommunityKeys,
    versions: &[Version],
) -> Result<Access, SettingsError> {
    match keys.community {
        Some(name) if !name.reveal().is_empty() => {
            Ok(Access::Community(Community::new(name.reveal(), versions)))
        }
        _ => Err(settings.error("community", "required, the community that may write")),
    }
}

pub(super) fn build_v3(settings: &Settings) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let keys: UserKeys = settings.read()?;
    build(settings, Access::User(user(settings, &keys)?))
}

/// The user of `keys`. As in the Python program a protocol is used only with its passphrase, and a
/// passphrase without a protocol means MD5 and DES.
fn user(settings: &Settings, keys: &UserKeys) -> Result<User, SettingsError> {
    let name = keys.username.as_deref().filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(settings.error("username", "required for snmpv3"));
    };
    let passphrase = |key: &str, given: &Option<Secret>| match given {
        Some(secret) if secret.reveal().is_empty() => Ok(None),
        // RFC 3414, section 11.2.
        Some(secret) if secret.reveal().chars().count() < 8 => {
            Err(settings.error(key, "expected at least 8 characters"))
        }
        given => Ok(given.clone()),
    };
    let auth_passphrase = passphrase("authpassphrase", &keys.authpassphrase)?;
    let priv_passphrase = passphrase("privpassphrase", &keys.privpassphrase)?;
    let auth = match keys.auth_protocol.as_deref() {
        None => Some(AuthProtocol::Md5),
        Some(name) => {
            protocols::auth(name).map_err(|message| settings.error("auth_protocol", message))?
        }
    };
    let privacy = match keys.priv_protocol.as_deref() {
        None => Privacy::Cipher(Cipher::Des, KeyExtension::Blumenthal),
        Some(name) => {
            protocols::privacy(name).map_err(|message| settings.error("priv_protocol", message))?
        }
    };
    let mut user = User::new(name);
    let is_signed = match (auth, &auth_passphrase) {
        (Some(protocol), Some(passphrase)) => {
            user = user.signed(protocol, passphrase.reveal());
            true
        }
        _ => false,
    };
    match (privacy, &priv_passphrase) {
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

fn build(settings: &Settings, access: Access) -> Result<(Box<dyn Driver>, Outlets), SettingsError> {
    let keys: Keys = settings.read()?;
    let address = settings.address(PORT)?;
    Ok(SnmpPdu::build(
        Session::new(address.host, address.port, access),
        control(settings, &keys)?,
    ))
}

fn control(settings: &Settings, keys: &Keys) -> Result<Control, SettingsError> {
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
        (None, Some(mib), Some(name)) if is_true(&keys.inside_number) => {
            Ok(Control::Scalars(Scalars {
                objects: per_outlet(settings, keys, mib, name)?,
                // A scalar's only instance is 0, and no PDU has another.
                ending: keys.static_ending.unwrap_or(0),
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

/// Any value that Python takes for true.
fn is_true(value: &serde_json::Value) -> bool {
    use serde_json::Value as V;
    match value {
        V::Null => false,
        V::Bool(flag) => *flag,
        V::Number(number) => number.as_f64() != Some(0.0),
        V::String(text) => !text.is_empty(),
        V::Array(list) => !list.is_empty(),
        V::Object(map) => !map.is_empty(),
    }
}

fn column(
    settings: &Settings,
    keys: &Keys,
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
    keys: &Keys,
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
fn files(keys: &Keys) -> Mibs {
    let own: Vec<&str> = match &keys.mib_path {
        None => Vec::new(),
        Some(Folders::Text(text)) => text.split(':').collect(),
        Some(Folders::List(list)) => list.iter().map(String::as_str).collect(),
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
        let keys: Keys = settings.read().map_err(|error| error.to_string())?;
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
        assert_eq!(key(build_v1(&settings(oid()))), "none");
        assert_eq!(key(build_v1(&with("community", null.clone()))), "community");
        assert_eq!(key(build_v1(&with("version", "3".into()))), "version");
        assert_eq!(key(build_v1(&with("version", "v2c".into()))), "none");
        assert_eq!(key(build_v1(&with("onsetting", "x".into()))), "onsetting");
        assert_eq!(key(build_v1(&with("mib", "IF-MIB".into()))), "oid");
        assert_eq!(key(build_v1(&with("oid", null.clone()))), "oid");
        assert_eq!(key(build_v3(&settings(oid()))), "none");
        assert_eq!(key(build_v3(&with("username", null))), "username");
        assert_eq!(
            key(build_v3(&with("authpassphrase", "short".into()))),
            "authpassphrase"
        );
        assert_eq!(
            key(build_v3(&with("privpassphrase", "long enough".into()))),
            "privpassphrase"
        );
        assert_eq!(
            key(build_v3(&with("auth_protocol", "SHA3".into()))),
            "auth_protocol"
        );
        let mut keys = oid();
        keys["authpassphrase"] = "long enough".into();
        keys["privpassphrase"] = "long enough".into();
        keys["priv_protocol"] = "usm3DESEDEPrivProtocol".into();
        let error = build_v3(&settings(keys)).err().expect("3DES");
        assert!(error.message.contains("3DES") && error.key.as_deref() == Some("priv_protocol"));
    }
}
