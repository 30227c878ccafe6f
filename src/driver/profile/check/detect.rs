//! How a PDU of this kind shows itself.

use super::{Checker, Of};
use crate::driver::profile::Signs;
use crate::driver::profile::holes::Place;
use crate::driver::profile::written::{File, Transport};

impl Checker {
    pub(super) fn detect(&mut self, written: &File) -> Option<Signs> {
        let detect = written.detect.as_ref()?;
        let is_of_snmp =
            !detect.sysobjectid.is_empty() || !detect.except.is_empty() || detect.has.is_some();
        let is_of_http = detect.page.is_some() || detect.shows.is_some();
        match written.transport {
            Transport::Snmp if !is_of_http => {}
            Transport::Http if !is_of_snmp => {}
            transport => {
                let message = format!("transport {transport} has no such sign");
                self.fault("detect", message);
            }
        }
        let mut oids = |key: &str, oids: &[String]| {
            let numbered = oids.iter().enumerate();
            let read = numbered
                .filter_map(|(at, oid)| self.oid(&format!("detect.{key}.{at}"), oid, Of::Pdu));
            read.collect::<Vec<_>>()
        };
        let ids = oids("sysobjectid", &detect.sysobjectid);
        let except = oids("except", &detect.except);
        let has = detect.has.as_ref();
        let has = has.and_then(|oid| self.oid("detect.has", oid, Of::Outlet));
        let page = match (&detect.page, &detect.shows) {
            (Some(page), Some(shows)) => {
                if !page.starts_with('/') || page.starts_with("//") {
                    self.fault("detect.page", "expected a path that begins with one slash");
                }
                let page = self.text("detect.page", page, Place::Target, Of::Pdu);
                page.zip(self.text("detect.shows", shows, Place::Pattern, Of::Pdu))
            }
            (None, None) => None,
            _ => {
                self.fault("detect", "expected page and shows together");
                None
            }
        };
        if ids.is_empty() && has.is_none() && page.is_none() {
            self.fault("detect", "expected sysobjectid, has, or page and shows");
        }
        Some(Signs {
            ids,
            except,
            has,
            page,
        })
    }
}
