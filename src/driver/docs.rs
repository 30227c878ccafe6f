//! The drivers' documentation, made from their table rows: for `--list-drivers`, `devices.md` and
//! the man page.

use crate::driver::DriverSpec;
use crate::settings::{Absent, Key};
use serde_json::Value;
use std::fmt::Write;

/// Every driver in full, for a terminal.
pub fn list_drivers<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    let mut text = String::new();
    for spec in specs {
        let case = if spec.any_case {
            " (in any letter case)"
        } else {
            ""
        };
        let reads = if spec.reads_back { "yes" } else { "no" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}{case}", spec.names.join(", "));
        let _ = writeln!(text, "    {}", spec.models);
        let _ = writeln!(
            text,
            "    over {}; outlets: {}; reads states: {reads}",
            spec.transport, spec.outlets
        );
        for key in spec.build.keys() {
            let kind = key.kind_and_range();
            let _ = writeln!(
                text,
                "    {}: {kind} [{}], {}",
                key.name, key.absent, key.about
            );
        }
        let _ = writeln!(text, "    verified: {}\n", spec.verified_by);
    }
    text
}

/// The names of a row, as `devices.md` shows them.
fn names(spec: &DriverSpec) -> String {
    let names: Vec<String> = spec.names.iter().map(|name| format!("`{name}`")).collect();
    let case = if spec.any_case { " (any case)" } else { "" };
    format!("{}{case}", names.join(" "))
}

/// One line of a Markdown table.
fn line<const N: usize>(cells: [String; N]) -> String {
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

/// The models in the order of their makers, for people who look for theirs. Rows that name no maker
/// begin in lower case and stand last.
pub fn models<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    models_with(specs, names)
}

/// The same of profiles, each with a link to its page.
pub fn profiles<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    models_with(specs, |spec| {
        let id = spec.names.first().copied().unwrap_or_default();
        format!("[`{id}`](devices/{id}.md)")
    })
}

fn models_with<'a>(
    specs: impl Iterator<Item = &'a DriverSpec>,
    names: impl Fn(&DriverSpec) -> String,
) -> String {
    let mut specs: Vec<&DriverSpec> = specs.collect();
    specs.sort_by_key(|spec| {
        let unnamed = spec.models.starts_with(char::is_lowercase);
        (unnamed, spec.models.to_lowercase())
    });
    let head = "| maker and models | driver | over | outlets | reads states |\n\
                | --- | --- | --- | --- | --- |\n";
    let rows = specs.into_iter().map(|spec| {
        let reads = if spec.reads_back { "yes" } else { "no" };
        line([
            spec.models.to_owned(),
            names(spec),
            spec.transport.to_owned(),
            spec.outlets.to_string(),
            reads.to_owned(),
        ])
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// The keys of every driver, and how we verified it.
pub fn keys<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    let head = "| driver | keys (default) | verified by |\n| --- | --- | --- |\n";
    let rows = specs.map(|spec| {
        let keys: Vec<String> = spec
            .build
            .keys()
            .iter()
            .map(|key| match &key.absent {
                Absent::Refused => format!("**`{}`**", key.name),
                Absent::Nothing => format!("`{}`", key.name),
                value => format!("`{}` ({value})", key.name),
            })
            .collect();
        line([names(spec), keys.join(", "), spec.verified_by.to_owned()])
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// The keys of a section, for `config.md`.
pub fn section(keys: &[Key]) -> String {
    let head = "| key | default | |\n| --- | --- | --- |\n";
    let rows = keys.iter().map(|key| {
        let absent = match &key.absent {
            Absent::Json(text) if text.starts_with('"') => format!("`{}`", text.trim_matches('"')),
            absent => absent.to_string(),
        };
        line([format!("`{}`", key.name), absent, key.about.to_string()])
    });
    std::iter::once(head.to_owned()).chain(rows).collect()
}

/// What stands in an entry to paste for a key that the admin must fill in.
pub(crate) fn example(key: &Key) -> Value {
    match &*key.kind {
        "number" => 1.into(),
        _ => (*key.name).into(),
    }
}

/// An entry of the config's `pdus` to paste.
pub(crate) fn entry(pdu: &str, driver: &str, keys: &[(String, Value)]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut entry = format!("{}: {{\"driver\": {}", quoted(pdu), quoted(driver));
    for (key, value) in keys {
        entry.push_str(&format!(", {}: {value}", quoted(key)));
    }
    entry.push('}');
    entry
}

/// The page of one profile: a config entry to paste, and everything that its row says.
pub fn page(spec: &DriverSpec) -> String {
    let name = spec.names.first().copied().unwrap_or_default();
    let mut said = vec![("ip".to_owned(), Value::from("192.0.2.10"))];
    if spec.transport == "snmp" {
        said.push(("community".to_owned(), "private".into()));
    }
    let keys = spec.build.keys();
    let needed = keys.iter().filter(|key| key.absent == Absent::Refused);
    said.extend(needed.map(|key| (key.name.to_string(), example(key))));
    let entry = entry("rack1", name, &said);
    let mut text = format!("# {}\n\n```json\n{entry}\n```\n\n", spec.models);
    if let [_, others @ ..] = spec.names
        && !others.is_empty()
    {
        text.push_str(&format!(
            "Other names of the driver: {}.\n\n",
            others.join(", ")
        ));
    }
    let reads = match spec.reads_back {
        true => "The daemon reads the state of each outlet, and confirms each switch by it.",
        false => "The PDU does not tell the state of its outlets.",
    };
    let writes = match spec.transport {
        "snmp" => " The community, or the SNMPv3 user, must be allowed to write.",
        _ => "",
    };
    text.push_str(&format!(
        "* Over {}. {reads}{writes}\n* Outlets: {}.\n* How we know: {}.\n\n",
        spec.transport,
        spec.outlets,
        spec.verified_by.trim_end_matches('.')
    ));
    text.push_str("| key | kind | default | what for |\n| --- | --- | --- | --- |\n");
    for key in &keys {
        text.push_str(&line([
            format!("`{}`", key.name),
            key.kind_and_range(),
            key.absent.to_string(),
            key.about.to_string(),
        ]));
    }
    text
}

/// The man page's section: an item per spec, in mdoc macros.
pub fn man_section<'a>(specs: impl Iterator<Item = &'a DriverSpec>) -> String {
    // A line that begins with a dot or an apostrophe would be a request.
    let escape = |text: &str| {
        let text = text.replace('\\', "\\e").replace('-', "\\-");
        if text.starts_with(['.', '\'']) {
            format!("\\&{text}")
        } else {
            text
        }
    };
    let mut text = String::from(".Bl -tag -width Ds\n");
    for spec in specs {
        let case = if spec.any_case {
            " (in any letter case)"
        } else {
            ""
        };
        let reads = if spec.reads_back {
            "States can be read."
        } else {
            "States cannot be read."
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, ".It Ic \"{}\"{case}", escape(&spec.names.join(", ")));
        let about = format!(
            "{}; over {}. Outlets: {}. {reads}",
            spec.models, spec.transport, spec.outlets
        );
        let _ = writeln!(text, "{}", escape(&about));
        for key in spec.build.keys() {
            let about = format!("({}; {}): {}", key.kind_and_range(), key.absent, key.about);
            let _ = writeln!(text, ".Pp\n.Ic {}\n{}", key.name, escape(&about));
        }
        let _ = writeln!(text, ".Pp\nVerified: {}", escape(spec.verified_by));
    }
    text.push_str(".El\n");
    text
}
