//! The USB drivers against emulated devices behind a real Linux USB stack: only in the virtual
//! machine of `make test-usb`, which runs these with `--include-ignored`.

use crate::transcript;

#[test]
#[ignore = "needs the virtual machine of make test-usb"]
fn every_usb_transcript_holds() {
    let cases = transcript::cases();
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| case.transport == "usb")
        .flat_map(|case| {
            case.drivers
                .iter()
                .filter_map(|name| transcript::check(case, name).err())
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
