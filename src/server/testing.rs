//! For the unit tests of the shell.

use std::path::Path;

/// Runs a test in an empty directory of this name, which is removed if it passes.
pub(super) fn in_dir(name: &str, test: impl FnOnce(&Path)) {
    let dir = std::env::temp_dir().join(format!("meldis-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    test(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
}
