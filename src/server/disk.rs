//! Files that are replaced as a whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces a file's content, and keeps its permissions: whoever reads it sees the old content or the new one, also after
/// a crash.
///
/// # Errors
/// If it cannot be written. Then the old content stays.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    if let Ok(held) = std::fs::metadata(path) {
        file.set_permissions(held.permissions())?;
    }
    file.sync_data()?;
    std::fs::rename(new, path)
}
