//! The page at `/`: three files, embedded; they speak to `/api/v1` and nobody else.

use super::exchange::Exchange;
use super::problem::Problem;
use super::response::Response;

/// Nothing from anywhere else, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn index(_: &Exchange) -> Result<Response, Problem> {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

pub(super) fn script(_: &Exchange) -> Result<Response, Problem> {
    file("text/javascript; charset=utf-8", include_str!("page.js"))
}

pub(super) fn style(_: &Exchange) -> Result<Response, Problem> {
    file("text/css; charset=utf-8", include_str!("page.css"))
}

fn file(content_type: &str, text: &str) -> Result<Response, Problem> {
    Ok(Response::new(200, content_type, text.as_bytes())
        .with("Content-Security-Policy", POLICY)
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
        .with("Cache-Control", "no-cache"))
}
