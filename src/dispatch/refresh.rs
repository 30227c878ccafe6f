//! Background reads: whoever only looks at a PDU has its old states read again, in rounds. A round
//! reads all of them in one session, one outlet after the other, and leaves out what the PDU has
//! told with another outlet. Before the first read the PDU is asked which outlets it has. The PDU's
//! `refresh` key says how often a round may begin, and none begins while somebody waits for the PDU.

use super::held::held;
use super::{Dispatcher, LastState, PduInfo, Progress};
use crate::request::{Action, FailureKind, Outcome, Outlet, PduName, Request, Target};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A PDU is looked at no more often than this, however many clients ask.
const LOOK: Duration = Duration::from_millis(500);
/// An outlet whose read failed is left in peace so long, and its PDU if that did not answer.
const SORE: Duration = Duration::from_secs(15);

/// The background reads of one PDU.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// A read is under way; these outlets come after it.
    is_busy: bool,
    left: VecDeque<Outlet>,
    /// The round reads no state that became known since then.
    began: Option<SystemTime>,
    /// The next round begins no earlier.
    not_before: Option<Instant>,
    /// Outlets whose read failed, and when.
    sore: HashMap<Outlet, Instant>,
}

impl Round {
    /// The outlet that it reads next.
    fn next(&mut self) -> Option<Outlet> {
        let next = self.left.pop_front();
        self.is_busy = next.is_some();
        next
    }
}

impl Dispatcher {
    /// Has the states of this PDU that are older than `age` read again. Never waits.
    pub fn refresh(self: &Arc<Self>, info: &PduInfo, age: Duration) {
        let Some(pause) = info
            .refresh
            .filter(|_| info.reads_back && info.waiting == 0)
        else {
            return;
        };
        let now = Instant::now();
        let mut rounds = held(&self.rounds);
        let is_early = |round: &Round| round.not_before.is_some_and(|until| now < until);
        let round = rounds.get(&info.name);
        if round.is_some_and(|round| round.is_busy || is_early(round)) {
            return;
        }
        let round = rounds.entry(info.name.clone()).or_default();
        let sore = &mut round.sore;
        sore.retain(|outlet, _| info.outlets.contains_key(outlet) || info.sought.contains(outlet));
        let is_old = |known: &LastState| known.at.elapsed().is_ok_and(|known| known > age);
        let is_due = |outlet: &&Outlet| {
            info.report
                .outlets
                .get(*outlet)
                .is_none_or(|known| is_old(known))
                && sore.get(*outlet).is_none_or(|failed| now >= *failed + SORE)
        };
        let mut left: Vec<Outlet> = info.outlets.keys().filter(is_due).cloned().collect();
        left.extend(info.sought.first().filter(is_due).cloned());
        // One that failed keeps no other waiting, nor does it wait for ever.
        left.sort_by_key(|outlet| sore.get(outlet).copied());
        // A look that finds nothing to read costs the PDU nothing.
        let pause = if left.is_empty() { LOOK } else { pause };
        round.not_before = Some(now + pause);
        round.began = Some(SystemTime::now());
        round.left = left.into();
        drop(rounds);
        self.read_next(&info.name);
    }

    /// Submits the next background read of this PDU, whose end submits the one after it.
    fn read_next(self: &Arc<Self>, pdu: &PduName) {
        let next = || held(&self.rounds).get_mut(pdu).and_then(Round::next);
        while let Some(outlet) = next() {
            let request = Request {
                client: "refresh".into(),
                target: Target::Outlet {
                    pdu: pdu.to_string(),
                    outlet: outlet.clone(),
                },
                action: Action::State,
                delay: None,
                is_background: true,
                may_know_names: false,
            };
            let ticket = self.submit(request, Box::new(drop));
            if let Progress::Ended { outcome, .. } = ticket.progress() {
                // Refused: the next one, and not from within this one's end.
                self.has_read(pdu, &outlet, &outcome);
                continue;
            }
            let (dispatcher, pdu) = (Arc::clone(self), pdu.clone());
            return ticket.follow(move |ticket| {
                if let Progress::Ended { outcome, .. } = ticket.progress() {
                    dispatcher.has_read(&pdu, &outlet, &outcome);
                    dispatcher.read_next(&pdu);
                }
            });
        }
    }

    /// A read has ended. Outlets that have come to light by it are read in turn, and the outlet after
    /// one that was sought and found is sought.
    fn has_read(&self, pdu: &PduName, outlet: &Outlet, outcome: &Outcome) {
        let info = self.pdu(pdu.as_str());
        let mut rounds = held(&self.rounds);
        let (Some(info), Some(round)) = (info, rounds.get_mut(pdu)) else {
            return;
        };
        let is_known = |outlet: &Outlet| {
            let known = info.report.outlets.get(outlet);
            known.is_some_and(|known| Some(known.at) >= round.began)
        };
        round.left.retain(|outlet| !is_known(outlet));
        let Err(failure) = outcome else {
            round.sore.remove(outlet);
            let is_new = |next: &&Outlet| {
                *next != outlet
                    && !info.report.outlets.contains_key(*next)
                    && !round.left.contains(*next)
                    && !round.sore.contains_key(*next)
            };
            let shown = info.outlets.keys().chain(info.sought.first());
            let new: Vec<Outlet> = shown.filter(is_new).cloned().collect();
            return round.left.extend(new);
        };
        let now = Instant::now();
        round.sore.insert(outlet.clone(), now);
        // All other failures may be the PDU's: a wrong password is not tried with each outlet.
        let is_of_outlet = matches!(
            failure.kind,
            FailureKind::NoSuchOutlet | FailureKind::CannotRead
        );
        if !is_of_outlet {
            round.left.clear();
            round.not_before = round.not_before.max(Some(now + SORE));
        }
    }
}
