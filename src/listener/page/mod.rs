//! The page at `/`: three files, embedded; they speak to `/api/v1` and nobody else.

use super::api::{Call, Problem};
use super::exchange::Answer;

/// Nothing from anywhere else, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn index(_: &Call) -> Result<Answer, Problem> {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

pub(super) fn script(_: &Call) -> Result<Answer, Problem> {
    file("text/javascript; charset=utf-8", include_str!("page.js"))
}

pub(super) fn style(_: &Call) -> Result<Answer, Problem> {
    file("text/css; charset=utf-8", include_str!("page.css"))
}

fn file(content_type: &str, text: &str) -> Result<Answer, Problem> {
    Ok(Answer::new(200, content_type, text.as_bytes())
        .with("Content-Security-Policy", POLICY)
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
        .with("Cache-Control", "no-cache"))
}
