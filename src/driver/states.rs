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

    /// The state of `outlet`, which is `own`, beside those of the PDU's list of all its outlets.
    /// What is not among the PDU's `others` by its settings is left out.
    pub fn listed(
        outlet: &Outlet,
        own: State,
        others: &Outlets,
        list: impl IntoIterator<Item = (Outlet, State)>,
    ) -> Self {
        let (mut are_all, mut known) = (true, Vec::new());
        for (id, state) in list {
            let Ok(id) = others.parse(&id) else { continue };
            match state {
                _ if id == *outlet => {}
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
        let each = |outlet: &str| States::each(&Outlet::new(outlet), &Outlets::Range(1..=4), read);
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
            let states = States::listed(&Outlet::new("2"), State::On, &Outlets::Range(1..=4), list);
            let ids: Vec<String> = states.others.iter().map(|(id, _)| id.to_string()).collect();
            (ids.join(" "), states.are_all)
        };
        let both = [("1", State::Off), ("2", State::On), ("9", State::On)];
        assert_eq!(listed(&both), ("1".to_owned(), true));
        let odd = [("1", State::Off), ("3", State::Unknown("7".into()))];
        assert_eq!(listed(&odd), ("1".to_owned(), false));
    }
}
