//! PDUs whose control objects are known: only address and community are told in the config.

use super::SnmpPdu;
use super::control::{Control, Pattern};
use crate::driver::Driver;
use crate::settings::{Secret, Settings, SettingsError};
use crate::transport::snmp::{Access, Community, PORT, Session, Version};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    community: Option<Secret>,
}

/// CyberPower: ePDUOutletControlOutletCommand of CPS-MIB, immediateOn(1) and immediateOff(2).
pub(super) fn build_cyberpower(settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    build(
        settings,
        "private",
        Pattern {
            text: "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.*".into(),
            values: (1, 2),
        },
    )
}

/// Aviosys IP Power 9258: a maker's object without a MIB file, 1 is on and 0 off.
pub(super) fn build_ip9258(settings: &Settings) -> Result<Box<dyn Driver>, SettingsError> {
    build(
        settings,
        "public",
        Pattern {
            text: "1.3.6.1.4.1.92.58.2.*.0".into(),
            values: (1, 0),
        },
    )
}

fn build(
    settings: &Settings,
    community: &str,
    pattern: Pattern,
) -> Result<Box<dyn Driver>, SettingsError> {
    let keys: Keys = settings.read()?;
    let address = settings.address(PORT)?;
    let community = keys
        .community
        .filter(|given| !given.reveal().is_empty())
        .unwrap_or_else(|| Secret::new(community));
    Ok(Box::new(SnmpPdu {
        session: Session::new(
            address.host,
            address.port,
            Access::Community(Community::new(community.reveal(), &[Version::V1])),
        ),
        control: Arc::new(Control::Pattern(pattern)),
    }))
}
