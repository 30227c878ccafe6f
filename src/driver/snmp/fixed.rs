//! PDUs whose control objects the driver knows: the config tells only address and community.

use super::control::{Control, Pattern};
use super::{Batch, COMMUNITY, SnmpPdu};
use crate::driver::{Driver, Host};
use crate::settings::{Secret, Settings, SettingsError, keys};
use crate::transport::snmp::{Access, Agent, Community, PORT, Version};
use std::sync::Arc;

/// The communities that the makers set.
const CYBERPOWER: &str = "private";
const IP9258: &str = "public";

keys! {
    pub(super) struct CyberpowerKeys {
        ..host: Host;
        community: Option<Secret> => CYBERPOWER, COMMUNITY;
    }
}

keys! {
    pub(super) struct Ip9258Keys {
        ..host: Host;
        community: Option<Secret> => IP9258, COMMUNITY;
    }
}

/// CyberPower: ePDUOutletControlOutletCommand of CPS-MIB, immediateOn(1) and immediateOff(2).
pub(super) fn build_cyberpower(
    keys: CyberpowerKeys,
    settings: &Settings,
) -> Result<Box<dyn Driver>, SettingsError> {
    let pattern = Pattern {
        text: "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.*".into(),
        values: (1, 2),
    };
    build(settings, &keys.host, keys.community, CYBERPOWER, pattern)
}

/// Aviosys IP Power 9258: a maker's object without a MIB file, 1 is on and 0 off.
pub(super) fn build_ip9258(
    keys: Ip9258Keys,
    settings: &Settings,
) -> Result<Box<dyn Driver>, SettingsError> {
    let pattern = Pattern {
        text: "1.3.6.1.4.1.92.58.2.*.0".into(),
        values: (1, 0),
    };
    build(settings, &keys.host, keys.community, IP9258, pattern)
}

fn build(
    settings: &Settings,
    host: &Host,
    community: Option<Secret>,
    makers: &str,
    pattern: Pattern,
) -> Result<Box<dyn Driver>, SettingsError> {
    let address = host.address(settings, PORT)?;
    let community = community
        .filter(|given| !given.reveal().is_empty())
        .unwrap_or_else(|| Secret::new(makers));
    Ok(Box::new(SnmpPdu {
        agent: Agent::new(
            address.host,
            address.port,
            Access::Community(Community::new(community.reveal(), &[Version::V1])),
        ),
        control: Arc::new(Control::Pattern(pattern)),
        batch: Batch::of(1),
        shows_controls: false,
    }))
}
