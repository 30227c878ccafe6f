//! Imports travel as requests do: the table of `src/lib.rs` is held against every import.

use std::path::{Path, PathBuf};

/// What a module of `driver` may import of `driver` itself: the contract, never another dialect.
const DRIVER_CONTRACT: &[&str] = &[
    "Build",
    "DEVICE_TIMEOUT",
    "COMMAND_TIMEOUT",
    "Driver",
    "DriverError",
    "DriverSpec",
    "SHOWS_WITHIN",
    "Sought",
    "States",
    "Built",
    "Has",
    "By",
    "Host",
    "ADDRESS",
    "SAME_AS_IP",
    "Outlets",
    "named",
    "outlet_number",
    "confirm",
    "profile",
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

/// One file of `src`: its module path and its text without comments and unit tests.
struct Module {
    path: Vec<String>,
    is_front: bool,
    text: String,
}

fn modules() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources are found");
    let mut modules = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("within src");
        let mut path: Vec<String> = relative
            .with_extension("")
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into())
            .collect();
        if ["lib", "main", "bin"].contains(&path[0].as_str()) {
            continue;
        }
        let is_front = path.last().is_some_and(|name| name == "mod");
        if is_front {
            path.pop();
        }
        let text = std::fs::read_to_string(&file).expect("readable");
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        modules.push(Module {
            path,
            is_front,
            text: text.lines().map(|line| code(line) + "\n").collect(),
        });
    }
    modules
}

/// The paths of one `use`, its groups taken apart to any depth.
fn taken_apart(path: &str) -> Vec<String> {
    let Some((prefix, group)) = path.split_once('{') else {
        let name = path.split(" as ").next().unwrap_or_default();
        return vec![name.trim().to_owned()];
    };
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in group.trim_end().trim_end_matches('}').chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            items.push(std::mem::take(&mut item));
        } else {
            item.push(c);
        }
    }
    items.push(item);
    items
        .iter()
        .filter(|item| !item.trim().is_empty())
        .flat_map(|item| taken_apart(&format!("{}{}", prefix.trim(), item.trim())))
        .collect()
}

impl Module {
    /// Everything of ours that it names by `use`, or by a path that begins with `crate` or
    /// `super`: as a path from the top.
    fn imports(&self, all: &[Module]) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        let mut rest = String::new();
        for (index, part) in self.text.split("use ").enumerate() {
            let is_use = index > 0 && part.contains(';');
            let (used, after) = part
                .split_once(';')
                .filter(|_| is_use)
                .unwrap_or(("", part));
            if !used.is_empty() {
                paths.extend(taken_apart(&used.replace('\n', " ")));
            }
            rest.push_str(after);
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for start in ["crate::", "super::"] {
            for (at, _) in rest.match_indices(start) {
                if !rest[..at].ends_with(is_name) {
                    let path = rest[at..].split(|c| !is_name(c)).next();
                    paths.push(path.unwrap_or_default().trim_end_matches(':').to_owned());
                }
            }
        }
        paths
            .iter()
            .filter_map(|path| self.whole_path(path, all))
            .collect()
    }

    /// The path as it is from the top; none, when it leads out of the crate.
    fn whole_path(&self, path: &str, all: &[Module]) -> Option<Vec<String>> {
        let mut words: Vec<&str> = path.split("::").collect();
        let mut found = match words[0] {
            "crate" => Vec::new(),
            "super" | "self" => self.path.clone(),
            child => {
                let mut of_child = self.path.clone();
                of_child.push(child.to_owned());
                all.iter().find(|module| module.path == of_child)?;
                self.path.clone()
            }
        };
        while let Some(first @ ("crate" | "super" | "self")) = words.first().copied() {
            if first == "super" {
                found.pop()?;
            }
            words.remove(0);
        }
        found.extend(words.into_iter().map(str::to_owned));
        Some(found)
    }
}

/// The table of `src/lib.rs`: each room with those that it may import.
fn rooms() -> Vec<(String, Vec<String>)> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let lib = std::fs::read_to_string(lib).expect("readable");
    let names = |cell: &str| -> Vec<String> {
        let mut names = cell.split("[`").skip(1);
        names
            .by_ref()
            .filter_map(|name| Some(name.split_once("`]")?.0.to_owned()))
            .collect()
    };
    let rooms: Vec<_> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|row| {
            let mut cells = row.split('|');
            let room = cells
                .next()
                .unwrap_or_default()
                .split('`')
                .next()
                .unwrap_or_default();
            (room.to_owned(), names(cells.next().unwrap_or_default()))
        })
        .collect();
    assert!(rooms.len() > 5, "src/lib.rs has the table: {rooms:?}");
    for room in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let room = room.trim_end_matches(';');
        assert!(
            rooms.iter().any(|(name, _)| name == room),
            "{room} has no row in src/lib.rs"
        );
    }
    rooms
}

#[test]
fn imports_follow_the_picture() {
    let (all, rooms) = (modules(), rooms());
    let mut wrong = Vec::new();
    for module in &all {
        let name = module.path.join("::");
        let room = &module.path[0];
        let Some((_, allowed)) = rooms.iter().find(|(name, _)| name == room) else {
            wrong.push(format!(
                "{name}: the room {room} is not in the table of src/lib.rs"
            ));
            continue;
        };
        for import in module.imports(&all) {
            let shown = import.join("::");
            let Some(target) = import.first() else {
                wrong.push(format!("{name} imports everything"));
                continue;
            };
            if target != room && !allowed.contains(target) {
                wrong.push(format!("{name} must not import {shown}"));
            }
            // One kind of driver knows the contract and itself.
            if room == "driver" && module.path.len() > 2 && target == "driver" {
                let next = import.get(1).map(String::as_str).unwrap_or_default();
                if next != module.path[1] && !DRIVER_CONTRACT.contains(&next) {
                    wrong.push(format!(
                        "{name} must not import {shown}: it is another driver"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that still stand in a circle of imports. The list only gets shorter.
const NOT_YET: &[&str] = &["transport::command", "transport::leftover"];

#[test]
fn no_two_files_import_each_other() {
    let all = modules();
    // The file that a path means: the longest module that it begins with.
    let file_of = |path: &[String]| {
        (1..=path.len())
            .rev()
            .find_map(|end| all.iter().position(|module| module.path == path[..end]))
    };
    let imports: Vec<Vec<usize>> = all
        .iter()
        .enumerate()
        .map(|(index, module)| {
            let paths = module.imports(&all);
            let others = paths.iter().filter_map(|path| file_of(path));
            others
                .filter(|other| {
                    // A room's front may name the files of its room.
                    let is_own = all[*other].path.starts_with(&module.path);
                    *other != index && !(module.is_front && is_own)
                })
                .collect()
        })
        .collect();
    let reaches_itself = |start: usize| {
        let (mut seen, mut next) = (vec![false; all.len()], vec![start]);
        while let Some(index) = next.pop() {
            for other in &imports[index] {
                if *other == start {
                    return true;
                }
                if !std::mem::replace(&mut seen[*other], true) {
                    next.push(*other);
                }
            }
        }
        false
    };
    let circle: Vec<String> = (0..all.len())
        .filter(|index| reaches_itself(*index))
        .map(|index| all[index].path.join("::"))
        .collect();
    let new: Vec<&String> = circle
        .iter()
        .filter(|name| !NOT_YET.contains(&name.as_str()))
        .collect();
    assert!(new.is_empty(), "these import each other: {new:?}");
    let done: Vec<&&str> = NOT_YET
        .iter()
        .filter(|name| !circle.iter().any(|in_it| in_it == *name))
        .collect();
    assert!(
        done.is_empty(),
        "no circle any more, take them from the list: {done:?}"
    );
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
