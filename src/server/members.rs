//! Who the others are: the file `meldis.members` in the node's data directory, as JSON.
//!
//! ```json
//! {
//!   "members": [
//!     {
//!       "id": "0123456789", "incarnation": 3, "host": "10.0.0.2", "port": 6379, "follower": false,
//!       "configured": [["10.0.0.2", 6379]]
//!     }
//!   ],
//!   "forgotten": [{ "id": "00000000ab", "time": 7561234567890123456, "by": "0123456789", "incarnation": 3 }]
//! }
//! ```
//!
//! Written whenever it changes, by the task that looks after the links: a member that a restarted node has forgotten is
//! waited for by nobody. Like the identity's, the file is replaced by rename after an fsync.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::replace;
use super::identity::IdentityError;
use crate::clock::{NTP64, NodeId, Origin, Stamp};
use crate::link::frame::Member;
use crate::link::mesh::{Known, Roster};

const FILE: &str = "meldis.members";
/// After a failure the file is written again so much later.
const RETRY_MS: u64 = 1000;

/// See the module's head.
#[derive(Debug)]
pub struct Members {
    file: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What the file says.
    roster: Roster,
    /// When it could not be written.
    failed_at_ms: Option<u64>,
}

impl Members {
    /// Reads the file, if there is one, in a directory that is this node's alone.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let file = dir.join(FILE);
        let roster = match std::fs::read_to_string(&file) {
            Ok(text) => parse(&text).ok_or_else(|| IdentityError::DamagedMembers(file.clone()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Roster::default(),
            Err(error) => return Err(IdentityError::Unwritable { dir: dir.to_owned(), error }),
        };
        Ok(Members { file, held: Mutex::new(Held { roster, failed_at_ms: None }) })
    }

    /// What the file says.
    pub fn roster(&self) -> Roster {
        self.held.lock().roster.clone()
    }

    /// Writes the file if it says something else.
    ///
    /// # Errors
    /// If it cannot be written. It is tried again a second later.
    pub fn keep(&self, roster: Roster, now_ms: u64) -> io::Result<()> {
        let mut held = self.held.lock();
        let waits = held.failed_at_ms.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < RETRY_MS);
        if waits || roster == held.roster {
            return Ok(());
        }
        let written = replace(&self.file, text(&roster)?.as_bytes());
        held.failed_at_ms = written.is_err().then_some(now_ms);
        if written.is_ok() {
            held.roster = roster;
        }
        written
    }
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Content {
    members: Vec<Entry>,
    forgotten: Vec<Forgotten>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    incarnation: u32,
    host: String,
    port: u16,
    /// It only follows, as a replica.
    follower: bool,
    configured: Vec<(String, u16)>,
}

#[derive(Serialize, Deserialize)]
struct Forgotten {
    id: String,
    time: u64,
    by: String,
    incarnation: u32,
}

fn text(roster: &Roster) -> io::Result<String> {
    let entry = |Known { member, configured }: &Known| Entry {
        id: member.origin.node().to_string(),
        incarnation: member.origin.incarnation(),
        host: member.host.clone(),
        port: member.port,
        follower: member.follower,
        configured: configured.clone(),
    };
    let forgotten = |(node, stamp): &(NodeId, Stamp)| Forgotten {
        id: node.to_string(),
        time: stamp.time.0,
        by: stamp.origin.node().to_string(),
        incarnation: stamp.origin.incarnation(),
    };
    let content = Content {
        members: roster.members.iter().map(entry).collect(),
        forgotten: roster.forgotten.iter().map(forgotten).collect(),
    };
    Ok(serde_json::to_string_pretty(&content)? + "\n")
}

fn parse(text: &str) -> Option<Roster> {
    let content: Content = serde_json::from_str(text).ok()?;
    let known = |Entry { id, incarnation, host, port, follower, configured }: Entry| {
        let origin = Origin::new(NodeId::parse(&id)?, incarnation);
        Some(Known { member: Member { origin, host, port, follower }, configured })
    };
    let forgotten = |Forgotten { id, time, by, incarnation }: Forgotten| {
        let by = Origin::new(NodeId::parse(&by)?, incarnation);
        Some((NodeId::parse(&id)?, Stamp::new(NTP64(time), by)))
    };
    Some(Roster {
        members: content.members.into_iter().map(known).collect::<Option<_>>()?,
        forgotten: content.forgotten.into_iter().map(forgotten).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::in_dir;

    fn roster() -> Roster {
        let origin = Origin::new(NodeId::new(7 << 24), 3);
        // A peer says what its host is called.
        let member = Member { origin, host: "a\n\"b\" {".into(), port: 6379, follower: false };
        Roster {
            members: vec![Known { member, configured: vec![("b".into(), 1)] }],
            forgotten: vec![(NodeId::new(8 << 24), Stamp::new(NTP64(u64::MAX), origin))],
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        in_dir("members-kept", |dir| {
            let members = Members::open(dir).unwrap();
            assert_eq!(members.roster(), Roster::default());
            members.keep(roster(), 0).unwrap();
            assert_eq!(members.roster(), roster());
            assert_eq!(Members::open(dir).unwrap().roster(), roster());
            members.keep(Roster::default(), 0).unwrap();
            assert_eq!(Members::open(dir).unwrap().roster(), Roster::default());
        });
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again_later() {
        in_dir("members-retried", |dir| {
            let place = dir.join("gone");
            std::fs::create_dir(&place).unwrap();
            let members = Members::open(&place).unwrap();
            std::fs::remove_dir(&place).unwrap();
            assert!(members.keep(roster(), 10_000).is_err());
            assert!(members.keep(roster(), 10_999).is_ok(), "not tried yet");
            assert!(members.keep(roster(), 11_000).is_err());
            std::fs::create_dir(&place).unwrap();
            members.keep(roster(), 12_000).unwrap();
            assert_eq!(Members::open(&place).unwrap().roster(), roster());
        });
    }

    #[test]
    fn a_damaged_file_is_refused_at_every_truncation() {
        in_dir("members-damaged", |dir| {
            let whole = text(&roster()).unwrap();
            for len in 0..whole.trim_end().len() {
                std::fs::write(dir.join(FILE), &whole.as_bytes()[..len]).unwrap();
                let refusal = Members::open(dir).unwrap_err().to_string();
                assert!(refusal.contains("meldis.members is damaged"), "{len}: {refusal}");
            }
        });
    }
}
