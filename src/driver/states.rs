//! What one exchange tells of a PDU's outlets.

use super::{DriverError, Outlets};
use crate::request::{Outlet, State};

/// The state of the outlet that was asked for, and those of others that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// Of the outlet that was asked for.
    pub own: State,
    /// Of other outlets of this PDU, each either on or off.
    pub others: Vec<(Outlet, State)>,
}

impl States {
    /// The PDU told of no other outlet.
    pub fn only(own: State) -> Self {
        Self {
            own,
            others: Vec::new(),
        }
    }

    /// The state of `outlet`, and those of all `others` for which `read` finds one as well.
    pub fn each(
        outlet: &Outlet,
        others: &Outlets,
        read: impl Fn(&Outlet) -> Result<State, DriverError>,
    ) -> Result<Self, DriverError> {
        let own = read(outlet)?;
        let others = others.all().unwrap_or_else(|| others.sought());
        let others = others.into_iter().filter(|other| other != outlet);
        let known = others.filter_map(|other| match read(&other) {
            Ok(state @ (State::On | State::Off)) => Some((other, state)),
            // It is read by itself, which tells why.
            Ok(State::Unknown(_)) | Err(_) => None,
        });
        Ok(Self {
            own,
            others: known.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_come_along_where_they_are_on_or_off() {
        let read = |outlet: &Outlet| match outlet.as_str() {
            "1" => Ok(State::On),
            "2" => Ok(State::Unknown("7".into())),
            "3" => Err(DriverError::CannotRead("it is not there".into())),
            _ => Ok(State::Off),
        };
        let each = |outlet: &str| States::each(&Outlet::new(outlet), &Outlets::Range(1..=4), read);
        let others = |ids: &[(&str, State)]| {
            let ids = ids.iter().cloned();
            ids.map(|(id, state)| (Outlet::new(id), state)).collect()
        };
        let expected = |own: State, others: Vec<(Outlet, State)>| Ok(States { own, others });
        assert_eq!(each("1"), expected(State::On, others(&[("4", State::Off)])));
        let unknown = State::Unknown("7".into());
        let both = [("1", State::On), ("4", State::Off)];
        assert_eq!(each("2"), expected(unknown, others(&both)));
        assert!(each("3").is_err(), "the own one is not there");
    }
}
