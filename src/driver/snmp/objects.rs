//! The control objects of well-known PDUs: the object that switches an outlet, and the one that has
//! its state. For configs that name a `mib` and a `controlpoint`, as the Python program wants them; a
//! PDU that is new to us gets a profile instead.
//!
//! OIDs and values are from the makers' MIB files, which each row names. Rows without a MIB are from
//! other programs' use of these PDUs, and serve only to find the object with the state.

/// One control object.
#[derive(Debug)]
pub(super) struct Object {
    /// The MIB module; empty when no file of the maker names it.
    pub(super) mib: &'static str,
    /// The object's name; `*` stands for the outlet where each outlet has an object of its own.
    pub(super) name: &'static str,
    /// The column's OID, without index. Of objects with `*`: their common parent.
    pub(super) oid: &'static [u32],
    /// Where the outlet goes.
    pub(super) place: Place,
    /// The values that switch on and off.
    pub(super) values: (i64, i64),
    /// The object with the state.
    pub(super) status: Status,
    /// The meaning of other values in the control object.
    pub(super) others: &'static [(i64, &'static str)],
}

/// Where the outlet goes in a control object's OID.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Last in the table's index, behind these defaults of the columns before it.
    Index(&'static [u32]),
    /// It is the number of a scalar (`.0` follows): outlet to number, and back.
    Scalar {
        number: fn(u32) -> Option<u32>,
        outlet: fn(u32) -> Option<u32>,
    },
    /// As `Index`; switching on and off are two objects of this table, each written with a delay
    /// in seconds: the last numbers of their OIDs.
    OnOff {
        index: &'static [u32],
        on: u32,
        off: u32,
    },
    /// Its place in a text that lists all outlets, separated by commas; a switch writes the whole
    /// text. The object is a scalar.
    List,
}

/// The object with an outlet's state.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status {
    /// The control object itself, in the values that switch.
    Same,
    /// Another object with the same index.
    At {
        oid: &'static [u32],
        on: &'static [i64],
        off: &'static [i64],
        others: &'static [(i64, &'static str)],
    },
}

const APC: [(i64, &str); 4] = [
    (3, "rebooting"),
    (4, "unknown"),
    (5, "on after a delay"),
    (6, "off after a delay"),
];
const APC_RPDU: &[(i64, &str)] = &[
    (3, "rebooting"),
    (4, "on after a delay"),
    (5, "off after a delay"),
    (6, "reboot after a delay"),
    (7, "cancel"),
];

/// A row whose control object has the state.
const fn same(
    mib: &'static str,
    name: &'static str,
    oid: &'static [u32],
    index: &'static [u32],
    values: (i64, i64),
    others: &'static [(i64, &'static str)],
) -> Object {
    Object {
        mib,
        name,
        oid,
        place: Place::Index(index),
        values,
        status: Status::Same,
        others,
    }
}

/// A row whose state is in the object `status`.
const fn with(
    mib: &'static str,
    name: &'static str,
    oid: &'static [u32],
    index: &'static [u32],
    values: (i64, i64),
    status: Status,
) -> Object {
    Object {
        mib,
        name,
        oid,
        place: Place::Index(index),
        values,
        status,
        others: &[],
    }
}

/// The state object `oid`.
const fn at(
    oid: &'static [u32],
    on: &'static [i64],
    off: &'static [i64],
    others: &'static [(i64, &'static str)],
) -> Status {
    Status::At {
        oid,
        on,
        off,
        others,
    }
}

const EATON_STATUS: Status = at(
    &[1, 3, 6, 1, 4, 1, 534, 6, 6, 7, 6, 6, 1, 2],
    &[1],
    &[0],
    &[(2, "pending off"), (3, "pending on")],
);
const HP2_STATUS: Status = at(
    &[1, 3, 6, 1, 4, 1, 232, 165, 7, 5, 2, 1, 1],
    &[2],
    &[1],
    &[(3, "pending off"), (4, "pending on")],
);
const HP3_STATUS: Status = at(
    &[1, 3, 6, 1, 4, 1, 232, 165, 11, 5, 2, 1, 1],
    &[2],
    &[1],
    &[(3, "pending off"), (4, "pending on")],
);

/// A row of a table that has one object to switch on and one to switch off.
const fn on_off(
    mib: &'static str,
    name: &'static str,
    oid: &'static [u32],
    index: &'static [u32],
    (on, off): (u32, u32),
    status: Status,
) -> Object {
    Object {
        mib,
        name,
        oid,
        place: Place::OnOff { index, on, off },
        values: (0, 0),
        status,
        others: &[],
    }
}

fn one_more(outlet: u32) -> Option<u32> {
    outlet.checked_add(1).filter(|_| outlet > 0)
}

fn one_less(number: u32) -> Option<u32> {
    number.checked_sub(1).filter(|outlet| *outlet > 0)
}

/// ATEN PE: outlets 1 to 8 are the scalars 2 to 9, outlets 9 to 30 the scalars 11 to 32.
fn aten(outlet: u32) -> Option<u32> {
    match outlet {
        1..=8 => Some(outlet + 1),
        9..=30 => Some(outlet + 2),
        _ => None,
    }
}

fn aten_back(number: u32) -> Option<u32> {
    match number {
        2..=9 => Some(number - 1),
        11..=32 => Some(number - 2),
        _ => None,
    }
}

/// The table.
#[rustfmt::skip]
pub(super) static OBJECTS: &[Object] = &[
    // APC MasterSwitch, AP92xx, AP79xx with old firmware
    same("PowerNet-MIB", "sPDUOutletCtl", &[1,3,6,1,4,1,318,1,1,4,4,2,1,3], &[], (1, 2), &APC),
    // APC MasterSwitch Plus; the MIB has two indices, fence-agents uses three: UNVERIFIED
    with("PowerNet-MIB", "sPDUOutletControlMSPOutletCommand", &[1,3,6,1,4,1,318,1,1,6,5,1,1,5], &[1], (1, 3),
        at(&[1,3,6,1,4,1,318,1,1,6,7,1,1,5], &[1], &[2], &[])),
    // APC AP79xx
    Object { others: APC_RPDU, ..with("PowerNet-MIB", "rPDUOutletControlOutletCommand", &[1,3,6,1,4,1,318,1,1,12,3,3,1,1,4], &[], (1, 2),
        at(&[1,3,6,1,4,1,318,1,1,12,3,5,1,1,4], &[1], &[2], &[])) },
    // APC AP8xxx: the status has its values the other way round
    Object { others: &APC, ..with("PowerNet-MIB", "rPDU2OutletSwitchedControlCommand", &[1,3,6,1,4,1,318,1,1,26,9,2,4,1,5], &[], (1, 2),
        at(&[1,3,6,1,4,1,318,1,1,26,9,2,3,1,5], &[2], &[1], &[])) },
    // APC UPS outlet groups
    with("PowerNet-MIB", "upsOutletGroupControlCommand", &[1,3,6,1,4,1,318,1,1,1,12,3,2,1,3], &[], (1, 2),
        at(&[1,3,6,1,4,1,318,1,1,1,12,1,2,1,3], &[1], &[2], &[(3, "unknown")])),
    // Server Technology
    with("Sentry3-MIB", "outletControlAction", &[1,3,6,1,4,1,1718,3,2,3,1,11], &[1, 1], (1, 2),
        at(&[1,3,6,1,4,1,1718,3,2,3,1,5], &[1], &[0], &[(2, "off, waiting"), (3, "on, waiting"), (4, "off, error"),
            (5, "on, error"), (6, "no communication"), (7, "reading"), (8, "off, fuse"), (9, "on, fuse")])),
    with("Sentry4-MIB", "st4OutletControlAction", &[1,3,6,1,4,1,1718,4,1,8,5,1,2], &[1, 1], (1, 2),
        at(&[1,3,6,1,4,1,1718,4,1,8,3,1,1], &[1], &[2], &[(0, "unknown")])),
    // Raritan Dominion PX, PX2 and PX3
    same("PDU-MIB", "outletOperationalState", &[1,3,6,1,4,1,13742,4,1,2,2,1,3], &[], (1, 0), &[(2, "cycling"), (-1, "error")]),
    with("PDU2-MIB", "switchingOperation", &[1,3,6,1,4,1,13742,6,4,1,2,1,2], &[1], (1, 0),
        at(&[1,3,6,1,4,1,13742,6,4,1,2,1,3], &[7], &[8], &[(-1, "unavailable")])),
    // Power over Ethernet ports of switches
    same("POWER-ETHERNET-MIB", "pethPsePortAdminEnable", &[1,3,6,1,2,1,105,1,1,1,3], &[1], (1, 2), &[]),
    // Eaton ePDU
    on_off("EATON-EPDU-MIB", "outletControlOnCmd", &[1,3,6,1,4,1,534,6,6,7,6,6,1,4], &[0], (4, 3), EATON_STATUS),
    on_off("EATON-EPDU-MIB", "outletControlOffCmd", &[1,3,6,1,4,1,534,6,6,7,6,6,1,3], &[0], (4, 3), EATON_STATUS),
    same("EATON-EPDU-MA-MIB", "outletOperationalState", &[1,3,6,1,4,1,534,6,6,6,1,2,2,1,3], &[], (1, 0), &[(2, "cycling"), (-1, "error")]),
    // Pulizzi, Eaton ePDU PU-SW: one scalar per outlet
    Object {
        mib: "EATON-EPDU-PU-SW-MIB", name: "outlet*Command", oid: &[1,3,6,1,4,1,20677,2,6,2],
        place: Place::Scalar { number: one_more, outlet: one_less }, values: (1, 2),
        status: at(&[1,3,6,1,4,1,20677,2,6,3], &[1], &[2], &[]), others: &[(3, "rebooting"), (4, "no change")],
    },
    // HP and HPE
    on_off("CPQPOWER-MIB", "pdu2OutletControlOnCmd", &[1,3,6,1,4,1,232,165,7,5,2,1,3], &[1], (3, 2), HP2_STATUS),
    on_off("CPQPOWER-MIB", "pdu2OutletControlOffCmd", &[1,3,6,1,4,1,232,165,7,5,2,1,2], &[1], (3, 2), HP2_STATUS),
    on_off("CPQPOWER-MIB", "pdu3OutletControlOnCmd", &[1,3,6,1,4,1,232,165,11,5,2,1,3], &[1], (3, 2), HP3_STATUS),
    on_off("CPQPOWER-MIB", "pdu3OutletControlOffCmd", &[1,3,6,1,4,1,232,165,11,5,2,1,2], &[1], (3, 2), HP3_STATUS),
    // CyberPower
    Object { others: APC_RPDU, ..with("CPS-MIB", "ePDUOutletControlOutletCommand", &[1,3,6,1,4,1,3808,1,1,3,3,3,1,1,4], &[], (1, 2),
        at(&[1,3,6,1,4,1,3808,1,1,3,3,5,1,1,4], &[1], &[2], &[])) },
    with("CPS-MIB", "ePDU2OutletSwitchedControlCommand", &[1,3,6,1,4,1,3808,1,1,6,6,1,5,1,5], &[], (1, 2),
        at(&[1,3,6,1,4,1,3808,1,1,6,6,1,4,1,5], &[1], &[2], &[])),
    // Gude
    same("GUDEADS-EPC1202-MIB", "epc1202PortState", &[1,3,6,1,4,1,28507,43,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC8221-MIB", "epc8221PortState", &[1,3,6,1,4,1,28507,56,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC8226-MIB", "epc8226PortState", &[1,3,6,1,4,1,28507,58,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC8316-MIB", "epc8316PortState", &[1,3,6,1,4,1,28507,64,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC1104-MIB", "epc1104PortState", &[1,3,6,1,4,1,28507,68,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC1105-MIB", "epc1105PortState", &[1,3,6,1,4,1,28507,69,1,3,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC8X-MIB", "epc8PortState", &[1,3,6,1,4,1,28507,1,1,2,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC24X-MIB", "epc24PortState", &[1,3,6,1,4,1,28507,5,1,1,2,1,3], &[], (1, 0), &[]),
    same("GUDEADS-EPC2X6-MIB", "epc2x6PortState", &[1,3,6,1,4,1,28507,6,1,2,2,1,3], &[], (1, 0), &[]),
    // NETIO
    with("NETIO-PRODUCTS-NETIO-MIB", "netioOutputAction", &[1,3,6,1,4,1,47952,1,1,1,5], &[], (1, 0),
        at(&[1,3,6,1,4,1,47952,1,1,1,3], &[1], &[0], &[])),
    // Aviosys IP Power 9258: 1.3.6.1.4.1.92.58.2.<outlet>.0
    same("", "", &[1,3,6,1,4,1,92,58,2], &[], (1, 0), &[]),
    // DigiPower, Lindy: the first PDU of a chain; -1 stands for an outlet that is not there
    Object {
        mib: "DigiPower-PDU-MIB", name: "pdu01OutletStatus", oid: &[1,3,6,1,4,1,17420,1,2,9,1,13],
        place: Place::List, values: (1, 0), status: Status::Same, others: &[(-1, "no such outlet")],
    },
    // Vertiv and Geist
    with("VERTIV-V5-MIB", "pduOutletSwitchControl", &[1,3,6,1,4,1,21239,5,2,3,5,1,6], &[], (2, 4),
        at(&[1,3,6,1,4,1,21239,5,2,3,5,1,4], &[1], &[2], &[(3, "on, going off"), (4, "off, going on")])),
    // Baytech
    same("Baytech-MIB-403-1", "sBTAModulesRPCOutletState", &[1,3,6,1,4,1,4779,1,3,5,3,1,3], &[1], (1, 0), &[(2, "rebooting")]),
    // ATEN PE: one scalar per outlet
    Object {
        mib: "ATEN-PE-CFG", name: "outlet*Status", oid: &[1,3,6,1,4,1,21317,1,3,2,2,2,2],
        place: Place::Scalar { number: aten, outlet: aten_back }, values: (2, 1),
        status: Status::Same, others: &[(3, "pending"), (4, "rebooting"), (5, "fault")],
    },
    // Teltronix: UNVERIFIED
    same("", "", &[1,3,6,1,4,1,23620,1,2,2,1,4], &[], (2, 1), &[]),
    // IBM iPDU
    same("", "", &[1,3,6,1,4,1,2,6,223,8,2,2,1,11], &[], (1, 0), &[]),
    // Tripp Lite PDUMH, WEBCARDLX and TRIPPLITE-MIB devices
    with("", "", &[1,3,6,1,4,1,850,10,2,3,5,1,4,1], &[], (2, 1), at(&[1,3,6,1,4,1,850,10,2,3,5,1,2,1], &[2], &[1], &[])),
    with("", "", &[1,3,6,1,4,1,850,1,1,3,2,3,3,1,1,6,1], &[], (2, 1), at(&[1,3,6,1,4,1,850,1,1,3,2,3,3,1,1,4,1], &[2], &[1], &[])),
    with("TRIPPLITE-MIB", "tlUpsOutletControl", &[1,3,6,1,4,1,850,100,1,10,2,1,4], &[], (2, 1),
        at(&[1,3,6,1,4,1,850,100,1,10,2,1,2], &[2], &[1], &[(0, "unknown")])),
    // Emerson and Liebert MPH
    with("", "", &[1,3,6,1,4,1,476,1,42,3,8,50,20,1,100], &[1, 1], (1, 0),
        at(&[1,3,6,1,4,1,476,1,42,3,8,50,20,1,95], &[2], &[1], &[])),
    // The port of a network switch
    same("IF-MIB", "ifAdminStatus", &[1,3,6,1,2,1,2,2,1,7], &[], (1, 2), &[(3, "testing")]),
];

/// The object `name` of `mib`; the module's name in any case, with or without `-MIB`.
pub(super) fn named(mib: &str, name: &str) -> Option<&'static Object> {
    let module = |mib: &str| {
        let mib = mib.to_ascii_uppercase();
        mib.strip_suffix("-MIB").unwrap_or(&mib).to_owned()
    };
    let wanted = module(mib);
    OBJECTS.iter().find(|object| {
        !object.name.is_empty() && object.name == name && module(object.mib) == wanted
    })
}

/// The control object that `oid` lies in, and the rest of `oid`: by the longest prefix.
pub(super) fn around(oid: &[u32]) -> Option<(&'static Object, &[u32])> {
    OBJECTS
        .iter()
        .filter_map(|object| Some((object, oid.strip_prefix(object.oid)?)))
        .filter(|(_, tail)| !tail.is_empty())
        .min_by_key(|(_, tail)| tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_sound() {
        let mut names = HashSet::new();
        let mut oids = HashSet::new();
        for object in OBJECTS {
            assert!(oids.insert(object.oid), "{:?} is there twice", object.oid);
            assert_eq!(object.mib.is_empty(), object.name.is_empty());
            assert!(object.name.is_empty() || names.insert((object.mib, object.name)));
            assert!(object.oid.starts_with(&[1, 3, 6, 1]));
            if let Status::At { oid, on, off, .. } = object.status {
                assert!(!oid.starts_with(object.oid) && oid.starts_with(&[1, 3, 6, 1]));
                assert!(on.iter().all(|value| !off.contains(value)));
            }
            match object.place {
                Place::OnOff { on, off, .. } => {
                    let last = object.oid.last().copied();
                    assert!(on != off && (last == Some(on) || last == Some(off)));
                }
                Place::Index(_) | Place::List => assert_ne!(object.values.0, object.values.1),
                Place::Scalar { number, outlet } => {
                    assert!(object.name.contains('*'));
                    for n in 1..=30 {
                        assert_eq!(number(n).and_then(outlet), Some(n));
                    }
                }
            }
        }
    }

    #[test]
    fn names_and_prefixes_find_their_rows() {
        let row = named("powernet", "sPDUOutletCtl").expect("a row");
        assert_eq!(row.oid.last(), Some(&3));
        assert!(named("PDU-MIB", "switchingOperation").is_none());
        assert!(named("", "").is_none());
        let (row, tail) =
            around(&[1, 3, 6, 1, 4, 1, 13742, 6, 4, 1, 2, 1, 2, 1, 8]).expect("a row");
        assert_eq!((row.name, tail), ("switchingOperation", &[1, 8][..]));
        assert!(around(&[1, 3, 6, 1, 4, 1, 318]).is_none());
    }
}
