//! MIB files: from an object's name to its OID.
//!
//! We read IMPORTS, the values of object identifiers, and the number of a table's indices (RFC 1155,
//! 1212, 2578), and pass over types, enumerations and texts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where systems keep their MIB files; `~` is the home folder.
pub(super) static SYSTEM_FOLDERS: &[&str] = &[
    "/usr/share/snmp/mibs",
    "/usr/share/mibs",
    "/var/lib/mibs",
    "~/.snmp/mibs",
];

/// The largest file that we read.
const MOST_BYTES: u64 = 8 << 20;

/// The most files that we look at in the folders together.
const MOST_FILES: usize = 10_000;

/// The longest way from a name to the root, over names and modules.
const DEEPEST: usize = 64;

/// Names that nearly every file builds on, so that the files that define them need not be there.
#[rustfmt::skip]
static WELL_KNOWN: &[(&str, &[u32])] = &[
    ("ccitt", &[0]), ("iso", &[1]), ("joint-iso-ccitt", &[2]), ("org", &[1,3]), ("dod", &[1,3,6]),
    ("internet", &[1,3,6,1]), ("directory", &[1,3,6,1,1]), ("mgmt", &[1,3,6,1,2]),
    ("mib-2", &[1,3,6,1,2,1]), ("system", &[1,3,6,1,2,1,1]), ("interfaces", &[1,3,6,1,2,1,2]),
    ("transmission", &[1,3,6,1,2,1,10]), ("experimental", &[1,3,6,1,3]), ("private", &[1,3,6,1,4]),
    ("enterprises", &[1,3,6,1,4,1]), ("security", &[1,3,6,1,5]), ("snmpV2", &[1,3,6,1,6]),
    ("snmpDomains", &[1,3,6,1,6,1]), ("snmpProxys", &[1,3,6,1,6,2]), ("snmpModules", &[1,3,6,1,6,3]),
];

/// An object as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its OID, without index.
    pub(super) oid: Vec<u32>,
    /// How many indices its table has; `None` when it is in no table.
    pub(super) indices: Option<usize>,
}

/// The value of a name: `{ parent 1 2 }`.
#[derive(Debug)]
struct Assignment {
    parent: Option<String>,
    numbers: Vec<u32>,
    /// How many names its INDEX clause has.
    indices: Option<usize>,
    augments: Option<String>,
}

#[derive(Debug, Default)]
struct Module {
    assignments: HashMap<String, Assignment>,
    /// Name to the module it is imported from.
    imports: HashMap<String, String>,
}

/// The modules read so far, and where others may be.
#[derive(Debug)]
pub(super) struct Mibs {
    folders: Vec<PathBuf>,
    /// Every file of the folders, once listed.
    files: Option<Vec<PathBuf>>,
    modules: HashMap<String, Option<Module>>,
}

impl Mibs {
    /// MIB files of `folders`, the first found counting.
    pub(super) fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            folders: folders.into_iter().collect(),
            files: None,
            modules: HashMap::new(),
        }
    }

    /// The object `name` of the module `mib`, or a sentence about the missing name or file.
    pub(super) fn find(&mut self, mib: &str, name: &str) -> Result<Found, String> {
        self.load(mib)?;
        let oid = self.resolve(mib, name, 0)?;
        let indices = self.indices(mib, name, 0);
        Ok(Found { oid, indices })
    }

    /// The names of `mib` that `pattern` stands for, `*` being a number; with that number.
    pub(super) fn numbered(
        &mut self,
        mib: &str,
        pattern: &str,
    ) -> Result<Vec<(u32, String)>, String> {
        self.load(mib)?;
        let (head, tail) = pattern.split_once('*').unwrap_or((pattern, ""));
        let module = self.modules.get(mib).and_then(Option::as_ref);
        let mut names: Vec<(u32, String)> = module
            .into_iter()
            .flat_map(|module| module.assignments.keys())
            .filter_map(|name| {
                let digits = name.strip_prefix(head)?;
                // Further `*` in the pattern stand for the same number.
                let end = digits
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(digits.len());
                let digits = digits.get(..end)?;
                let same = format!("{head}{digits}{}", tail.replace('*', digits));
                (same == *name)
                    .then(|| digits.parse().ok())
                    .flatten()
                    .map(|number| (number, name.clone()))
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn resolve(&mut self, mib: &str, name: &str, depth: usize) -> Result<Vec<u32>, String> {
        if depth > DEEPEST {
            return Err(format!("the MIB file of {mib} defines {name} in a circle"));
        }
        let module = self.modules.get(mib).and_then(Option::as_ref);
        let assignment = module.and_then(|module| module.assignments.get(name));
        if let Some(assignment) = assignment {
            let numbers = assignment.numbers.clone();
            let Some(parent) = assignment.parent.clone() else {
                return Ok(numbers);
            };
            let mut oid = self.resolve(mib, &parent, depth + 1)?;
            oid.extend(numbers);
            return Ok(oid);
        }
        // A well-known name needs no file, but a file that says otherwise counts.
        let known = WELL_KNOWN.iter().find(|(known, _)| *known == name);
        let from = module.and_then(|module| module.imports.get(name)).cloned();
        match (known, from) {
            (Some((_, oid)), _) => Ok(oid.to_vec()),
            (None, Some(from)) => {
                self.load(&from)?;
                self.resolve(&from, name, depth + 1)
            }
            (None, None) => Err(format!("the MIB file of {mib} does not define {name}")),
        }
    }

    /// The number of indices of the table that `name` is a column of: of the row above it.
    fn indices(&mut self, mib: &str, name: &str, depth: usize) -> Option<usize> {
        let module = self.modules.get(mib).and_then(Option::as_ref)?;
        let row = module.assignments.get(name)?.parent.clone()?;
        self.indices_of_row(mib, &row, depth)
    }

    fn indices_of_row(&mut self, mib: &str, row: &str, depth: usize) -> Option<usize> {
        if depth > DEEPEST {
            return None;
        }
        let module = self.modules.get(mib).and_then(Option::as_ref)?;
        let Some(assignment) = module.assignments.get(row) else {
            let from = module.imports.get(row)?.clone();
            self.load(&from).ok()?;
            return self.indices_of_row(&from, row, depth + 1);
        };
        if assignment.indices.is_some() {
            return assignment.indices;
        }
        let base = assignment.augments.clone()?;
        self.indices_of_row(mib, &base, depth + 1)
    }

    /// Reads the module's file, unless it has been read.
    fn load(&mut self, mib: &str) -> Result<(), String> {
        if !self.modules.contains_key(mib) {
            let module = self.file_of(mib).map(|text| parse(&tokens(&text), mib));
            self.modules.insert(mib.to_owned(), module);
        }
        if self.modules.get(mib).is_some_and(Option::is_some) {
            return Ok(());
        }
        let folders: Vec<String> = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        Err(format!("no MIB file of {mib} in {}", folders.join(", ")))
    }

    /// The text of the file that defines `mib`: one named after it, or else any.
    fn file_of(&mut self, mib: &str) -> Option<String> {
        if self.files.is_none() {
            let mut files = Vec::new();
            for folder in &self.folders {
                list(folder, 3, &mut files);
            }
            self.files = Some(files);
        }
        let files = self.files.as_deref().unwrap_or_default();
        let is_named = |file: &&PathBuf| {
            let name = file.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| {
                let stem = name.split('.').next().unwrap_or(&name);
                stem.eq_ignore_ascii_case(mib)
            })
        };
        let named = files.iter().filter(is_named);
        named
            .chain(files.iter().filter(|file| !is_named(file)))
            .filter_map(|file| read(file))
            .find(|text| defines(text, mib))
    }
}

/// The files in and below `folder`, without those that we cannot read.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort_unstable();
    for path in entries {
        if files.len() >= MOST_FILES {
            return;
        }
        if path.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, files);
            }
        } else if path.is_file() {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> Option<String> {
    let length = fs::metadata(file).ok()?.len();
    let bytes = (length <= MOST_BYTES).then(|| fs::read(file).ok())??;
    // MIB files are ASCII, except where people's names are not.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Does `text` hold the module `mib`? A quick look before we take the whole text apart.
fn defines(text: &str, mib: &str) -> bool {
    text.contains(mib)
        && tokens(text)
            .windows(2)
            .any(|pair| matches!(pair, [name, word] if *name == mib && *word == "DEFINITIONS"))
}

/// The words of a MIB file, without comments and texts.
fn tokens(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(comment) = rest.strip_prefix("--") {
            // A comment ends with its line, or at the next two hyphens. Makers do not agree on that, but
            // they all mean the line.
            2 + comment.find('\n').unwrap_or(comment.len())
        } else if let Some(quoted) = rest.strip_prefix('"') {
            1 + quoted.find('"').map_or(quoted.len(), |end| end + 1)
        } else if rest.starts_with("::=") {
            tokens.push("::=");
            3
        } else if is_word(first) {
            let mut length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            // A comment may follow a word without a space.
            if let Some(comment) = rest.get(..length).and_then(|word| word.find("--")) {
                length = comment.max(1);
            }
            tokens.extend(rest.get(..length));
            length
        } else {
            let length = first.len_utf8();
            if !first.is_whitespace() {
                tokens.extend(rest.get(..length));
            }
            length
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// Reads the module `mib` of a file that may hold others as well.
fn parse(tokens: &[&str], mib: &str) -> Module {
    let mut module = Module::default();
    let mut at = tokens
        .windows(2)
        .position(|pair| matches!(pair, [name, word] if *name == mib && *word == "DEFINITIONS"))
        .unwrap_or(0)
        + 2;
    while let Some(token) = tokens.get(at).copied() {
        let rest = tokens.get(at + 1..).unwrap_or_default();
        at += 1;
        match (token, rest) {
            ("END", _) | (_, ["DEFINITIONS", ..]) => break,
            // The macros' own definitions are full of keywords.
            (_, ["MACRO", ..]) => {
                at += rest
                    .iter()
                    .position(|word| *word == "END")
                    .unwrap_or(rest.len())
                    + 1;
            }
            ("IMPORTS", _) => {
                let end = rest
                    .iter()
                    .position(|word| *word == ";")
                    .unwrap_or(rest.len());
                imports(rest.get(..end).unwrap_or_default(), &mut module);
                at += end;
            }
            (name, ["OBJECT", "IDENTIFIER", "::=", "{", value @ ..]) => {
                if let Some(assignment) = assignment(value) {
                    module.assignments.insert(name.to_owned(), assignment);
                }
                at += 4;
            }
            (
                name,
                [
                    "OBJECT-TYPE" | "OBJECT-IDENTITY" | "MODULE-IDENTITY" | "OBJECT-GROUP"
                    | "NOTIFICATION-TYPE" | "NOTIFICATION-GROUP" | "MODULE-COMPLIANCE"
                    | "AGENT-CAPABILITIES",
                    clauses @ ..,
                ],
            ) if name.starts_with(|c: char| c.is_ascii_lowercase()) => {
                let Some(end) = clauses.iter().position(|word| *word == "::=") else {
                    break;
                };
                let (clauses, value) = clauses.split_at(end);
                if let ["::=", "{", value @ ..] = value
                    && let Some(mut assignment) = assignment(value)
                {
                    assignment.indices = list_of(clauses, "INDEX").map(|names| names.len());
                    assignment.augments =
                        list_of(clauses, "AUGMENTS").and_then(|names| names.last().cloned());
                    module.assignments.insert(name.to_owned(), assignment);
                }
                at += end + 1;
            }
            _ => {}
        }
    }
    module
}

/// `a, b FROM X c FROM Y`.
fn imports(words: &[&str], module: &mut Module) {
    let mut names: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "," => {}
            "FROM" => {
                let Some(from) = words.next() else { return };
                for name in names.drain(..) {
                    module.imports.insert(name.to_owned(), (*from).to_owned());
                }
            }
            name => names.push(name),
        }
    }
}

/// The names in the braces of a clause.
fn list_of(clauses: &[&str], clause: &str) -> Option<Vec<String>> {
    let at = clauses
        .windows(2)
        .position(|pair| matches!(pair, [word, "{"] if *word == clause))?;
    let words = clauses.get(at + 2..)?;
    let end = words.iter().position(|word| *word == "}")?;
    let names = words
        .get(..end)?
        .iter()
        .filter(|word| **word != "," && **word != "IMPLIED")
        .map(|word| (*word).to_owned());
    Some(names.collect())
}

/// `parent 1 2 }`, `iso org(3) dod(6) }` or `1 3 6 }`.
fn assignment(words: &[&str]) -> Option<Assignment> {
    let end = words.iter().position(|word| *word == "}")?;
    let mut words = words.get(..end)?.iter().peekable();
    let mut assignment = Assignment {
        parent: None,
        numbers: Vec::new(),
        indices: None,
        augments: None,
    };
    let mut is_first = true;
    while let Some(word) = words.next() {
        if let Ok(number) = word.parse() {
            assignment.numbers.push(number);
        } else if words.peek() == Some(&&"(") {
            // `org(3)`: the number counts.
            words.next();
            assignment.numbers.push(words.next()?.parse().ok()?);
            words.next_if_eq(&&")")?;
        } else if is_first {
            assignment.parent = Some((*word).to_owned());
        } else {
            return None;
        }
        is_first = false;
    }
    Some(assignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = r#"
        ACME-PDU-MIB DEFINITIONS ::= BEGIN
        -- a comment "with a quote
        IMPORTS
            MODULE-IDENTITY, OBJECT-TYPE, Integer32, enterprises FROM SNMPv2-SMI
            acmeProducts FROM ACME-SMI;
        acmePdu MODULE-IDENTITY
            LAST-UPDATED "202001010000Z"
            DESCRIPTION "::= { nonsense 1 }"
            ::= { acmeProducts 7 }
        acmeOther OBJECT IDENTIFIER ::= { enterprises acme(99999) 8 }
        outletTable OBJECT-TYPE
            SYNTAX SEQUENCE OF OutletEntry
            MAX-ACCESS not-accessible STATUS current DESCRIPTION "t" ::= { acmePdu 1 }
        outletEntry OBJECT-TYPE
            SYNTAX OutletEntry MAX-ACCESS not-accessible STATUS current DESCRIPTION "e"
            INDEX { unitIndex, IMPLIED outletIndex }
            ::= { outletTable 1 }
        OutletEntry ::= SEQUENCE { outletSwitch INTEGER }
        outletSwitch OBJECT-TYPE--odd
            SYNTAX INTEGER { off(0), on(1) } MAX-ACCESS read-write STATUS current
            DESCRIPTION "s" DEFVAL { off } ::= { outletEntry 3 }
        moreEntry OBJECT-TYPE SYNTAX MoreEntry MAX-ACCESS not-accessible STATUS current
            DESCRIPTION "m" AUGMENTS { outletEntry } ::= { acmePdu 2 }
        more OBJECT-TYPE SYNTAX INTEGER MAX-ACCESS read-write STATUS current
            DESCRIPTION "m" ::= { moreEntry 1 }
        outlet1Command OBJECT-TYPE SYNTAX INTEGER ACCESS read-write STATUS mandatory ::= { acmeOther 2 }
        outlet12Command OBJECT-TYPE SYNTAX INTEGER ACCESS read-write STATUS mandatory ::= { acmeOther 3 }
        circle OBJECT IDENTIFIER ::= { circle 1 }
        END
    "#;

    const SMI: &str = "ACME-SMI DEFINITIONS ::= BEGIN
        acme OBJECT IDENTIFIER ::= { iso org(3) dod(6) internet(1) private(4) enterprises(1) 99999 }
        acmeProducts OBJECT IDENTIFIER ::= { acme 2 } END";

    fn mibs() -> (tempfile::TempDir, Mibs) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("vendor")).expect("a folder");
        fs::write(folder.path().join("vendor/pdu.my"), ACME).expect("written");
        fs::write(folder.path().join("acme-smi.txt"), SMI).expect("written");
        let mibs = Mibs::new([folder.path().to_owned()]);
        (folder, mibs)
    }

    #[test]
    fn names_are_followed_to_the_root_over_files() {
        let (_folder, mut mibs) = mibs();
        let found = |mibs: &mut Mibs, name: &str| mibs.find("ACME-PDU-MIB", name);
        let base = [1, 3, 6, 1, 4, 1, 99999];
        assert_eq!(
            found(&mut mibs, "outletSwitch"),
            Ok(Found {
                oid: [&base[..], &[2, 7, 1, 1, 3]].concat(),
                indices: Some(2)
            })
        );
        assert_eq!(
            found(&mut mibs, "more").map(|found| found.indices),
            Ok(Some(2))
        );
        assert_eq!(
            found(&mut mibs, "outlet1Command"),
            Ok(Found {
                oid: [&base[..], &[8, 2]].concat(),
                indices: None
            })
        );
        assert_eq!(
            mibs.numbered("ACME-PDU-MIB", "outlet*Command"),
            Ok(vec![
                (1, "outlet1Command".into()),
                (12, "outlet12Command".into())
            ])
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let (folder, mut mibs) = mibs();
        let error =
            |mibs: &mut Mibs, mib: &str, name: &str| mibs.find(mib, name).expect_err("not there");
        assert!(error(&mut mibs, "ACME-PDU-MIB", "nothing").contains("does not define nothing"));
        assert!(error(&mut mibs, "ACME-PDU-MIB", "circle").contains("circle"));
        let absent = error(&mut mibs, "OTHER-MIB", "nothing");
        assert!(absent.contains("no MIB file of OTHER-MIB in"), "{absent}");
        assert!(absent.contains(&folder.path().display().to_string()));
    }

    #[test]
    fn odd_texts_are_read_without_harm() {
        for text in [
            "",
            "X DEFINITIONS",
            "X DEFINITIONS ::= BEGIN IMPORTS a FROM",
            "\"",
            "--",
            "X DEFINITIONS ::= BEGIN a OBJECT IDENTIFIER ::= {",
            "X DEFINITIONS ::= BEGIN a OBJECT-TYPE",
            "X DEFINITIONS ::= BEGIN a OBJECT IDENTIFIER ::= { b (",
            "é--é\"é",
            "a--b--c",
        ] {
            parse(&tokens(text), "X");
        }
    }
}
