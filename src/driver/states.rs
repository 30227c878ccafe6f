//! What one exchange tells of a PDU's outlets.

use super::{DriverError, Outlets};
use crate::request::{Outlet, State};

/// The state of the outlet that was asked for, and those of others that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// Of the outlet that was asked for.
    pub own: State,
    /// Of other outlets of this PDU, as far as they were told.
    pub others: Vec<(Outlet, State)>,
    /// The PDU has no others.
    pub are_all: bool,
}

impl States {
    /// The PDU told of no other outlet.
    pub fn only(own: State) -> Self {
        Self {
            own,
            others: Vec::new(),
            are_all: false,
        }
    }

    /// The state of the outlet asked for, which is `own`, beside those of the PDU's list of all its
    /// outlets, under the PDU's own ids.
    pub fn listed(own: State, list: impl IntoIterator<Item = (Outlet, State)>) -> Self {
        let (mut are_all, mut known) = (true, Vec::new());
        for (id, state) in list {
            match state {
                State::On | State::Off => known.push((id, state)),
                // It is read by itself, which tells why.
                State::Unknown(_) => are_all = false,
            }
        }
        Self {
            own,
            others: known,
            are_all,
        }
    }

    /// The others that `outlets` have, each by the key that all its names share.
    pub fn others_of(self, outlet: &Outlet, outlets: &Outlets) -> Vec<(Outlet, State)> {
        let parsed = self.others.into_iter().filter_map(|(id, state)| {
            let id = outlets.parse(&id).ok()?;
            (id != *outlet).then_some((id, state))
        });
        parsed.collect()
    }

    /// Those that are `told`; nothing where the state of `outlet` is not among them.
    pub fn among(outlet: &Outlet, told: impl IntoIterator<Item = (Outlet, State)>) -> Option<Self> {
        let (own, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|(of, _)| of == outlet);
        let (_, own) = own.into_iter().next()?;
        Some(Self {
            own,
            others,
            are_all: false,
        })
    }

    /// The state of `outlet`, and those of all `others` that `read` finds on or off.
    pub fn each(
        outlet: &Outlet,
        others: &[Outlet],
        read: impl Fn(&Outlet) -> Result<State, DriverError>,
    ) -> Result<Self, DriverError> {
        let own = read(outlet)?;
        let others = others.iter().filter(|other| *other != outlet);
        let known = others.filter_map(|other| match read(other) {
            Ok(state @ (State::On | State::Off)) => Some((other.clone(), state)),
            // It is read by itself, which tells why.
            Ok(State::Unknown(_)) | Err(_) => None,
        });
        Ok(Self {
            own,
            others: known.collect(),
            are_all: false,
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
        let four: Vec<Outlet> = ["1", "2", "3", "4"].map(Outlet::new).into();
        let each = |outlet: &str| States::each(&Outlet::new(outlet), &four, read);
        let others = |ids: &[(&str, State)]| {
            let ids = ids.iter().cloned();
            ids.map(|(id, state)| (Outlet::new(id), state)).collect()
        };
        let expected = |own: State, others: Vec<(Outlet, State)>| {
            let are_all = false;
            Ok(States {
                own,
                others,
                are_all,
            })
        };
        assert_eq!(each("1"), expected(State::On, others(&[("4", State::Off)])));
        let unknown = State::Unknown("7".into());
        let both = [("1", State::On), ("4", State::Off)];
        assert_eq!(each("2"), expected(unknown, others(&both)));
        assert!(each("3").is_err(), "the own one is not there");
    }

    #[test]
    fn a_list_is_of_all_where_it_tells_each_state() {
        let listed = |list: &[(&str, State)]| {
            let list = list.iter().cloned();
            let list = list.map(|(id, state)| (Outlet::new(id), state));
            let states = States::listed(State::On, list);
            let are_all = states.are_all;
            let others = states.others_of(&Outlet::new("2"), &Outlets::Range(1..=4));
            let ids: Vec<String> = others.iter().map(|(id, _)| id.to_string()).collect();
            (ids.join(" "), are_all)
        };
        let both = [("1", State::Off), ("2", State::On), ("9", State::On)];
        assert_eq!(listed(&both), ("1".to_owned(), true));
        let odd = [("1", State::Off), ("3", State::Unknown("7".into()))];
        assert_eq!(listed(&odd), ("1".to_owned(), false));
    }
}
