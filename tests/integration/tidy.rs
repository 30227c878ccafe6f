//! Imports travel as requests do: every `use crate::` line is held against the architecture.

use std::path::{Path, PathBuf};

/// Which top-level modules each may import (itself included silently). `driver/<kind>` and
/// `transport` are told apart from their parents.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("request", &[]),
    ("settings", &["request"]),
    ("ranges", &["request"]),
    ("hint", &[]),
    ("options", &["hint"]),
    ("children", &[]),
    ("transport", &["settings", "children"]),
    ("driver", &["request", "settings", "transport"]),
    ("access", &["request"]),
    ("vault", &["settings", "children"]),
    (
        "config",
        &[
            "request", "ranges", "settings", "driver", "hint", "access", "vault",
        ],
    ),
    ("metrics", &["request"]),
    (
        "dispatch",
        &[
            "request",
            "config",
            "driver",
            "hint",
            "metrics",
            "transport",
        ],
    ),
    (
        "listener",
        &[
            "request", "ranges", "access", "dispatch", "config", "metrics",
        ],
    ),
    ("cli", &["config", "options", "request"]),
    (
        "client",
        &["hint", "options", "ranges", "request", "settings"],
    ),
    ("logging", &["metrics"]),
    ("docs", &["driver"]),
    ("discover", &["driver", "transport"]),
    (
        "daemon",
        &[
            "children", "cli", "config", "dispatch", "listener", "logging", "request",
        ],
    ),
];

/// What a module of `driver` may import of `driver` itself: the contract, never another dialect.
const DRIVER_CONTRACT: &[&str] = &[
    "Build",
    "DEVICE_TIMEOUT",
    "COMMAND_TIMEOUT",
    "Driver",
    "DriverError",
    "DriverSpec",
    "Built",
    "Has",
    "Key",
    "Outlets",
    "named",
    "outlet_number",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The crate paths of every `use crate::…;` item, groups taken apart one level deep.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("crate::") {
        rest = &rest[start + "crate::".len()..];
        let end = rest
            .find([';', ' ', '\n', '(', ')', '<', '>', ','])
            .unwrap_or(rest.len());
        if let Some(group) = rest.strip_prefix('{') {
            let end = group.find('}').expect("a closed group");
            found.extend(
                group[..end]
                    .split(',')
                    .map(|item| item.trim().to_owned())
                    .filter(|item| !item.is_empty()),
            );
        } else {
            found.push(rest[..end].to_owned());
        }
    }
    found
}

#[test]
fn imports_follow_the_picture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources are found");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("within src");
        let parts: Vec<String> = relative
            .with_extension("")
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into())
            .collect();
        let module = parts[0].as_str();
        if ["lib", "main", "bin"].contains(&module) {
            continue;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!(
                "{}: the module {module} is not in the table",
                relative.display()
            ));
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("readable");
        for import in imports(&text) {
            let mut words = import.split("::");
            let target = words.next().unwrap_or_default();
            if target != module && !allowed.contains(&target) {
                wrong.push(format!(
                    "{}: {module} must not import crate::{import}",
                    relative.display()
                ));
            }
            // A dialect knows the contract and its own transport's folder, no other driver.
            if module == "driver" && parts.len() > 2 && target == "driver" {
                let next = words.next().unwrap_or_default();
                if next != parts[1] && !next.starts_with('{') && !DRIVER_CONTRACT.contains(&next) {
                    wrong.push(format!(
                        "{}: a driver must not import crate::{import}",
                        relative.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_architecture_is_told_in_every_place_alike() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = std::fs::read_to_string(root.join("src/lib.rs")).expect("readable");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("readable");
    let picture: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .skip_while(|line| *line != "```text")
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    assert!(picture.len() > 5, "lib.rs opens with the picture");
    assert!(
        readme.contains(&picture.join("\n")),
        "the README's picture differs from src/lib.rs"
    );
}
