//! The key `outlets` of a PDU narrows the outlets that its driver can have.

use crate::driver::Outlets;
use crate::request::Outlet;
use crate::request::ranges;
use crate::settings::OutletList;

/// Those of the driver's outlets that the key leaves; the error says what is wrong.
pub(super) fn narrow(key: &OutletList, outlets: &Outlets) -> Result<Outlets, String> {
    match key {
        OutletList::Number(number) => {
            let most = ranges::MAX_TARGETS;
            let count = usize::try_from(*number)
                .ok()
                .filter(|count| (1..=most).contains(count))
                .ok_or_else(|| format!("expected 1 to {most} outlets, got {number}"))?;
            let numbers = (outlets.first()..).take(count);
            outlets.narrowed(numbers.map(|number| Outlet::new(number.to_string())))
        }
        OutletList::Range(text) => {
            let ids = ranges::outlets(text).map_err(|error| error.to_string())?;
            outlets.narrowed(ids.into_iter().map(Outlet::new))
        }
        OutletList::Ids(ids) => outlets.narrowed(ids.iter().map(|id| Outlet::new(id.as_str()))),
    }
}
