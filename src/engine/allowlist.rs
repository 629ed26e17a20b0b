//! Which addresses clients may come from.
//!
//! One cluster-wide register: a list of blocks that the latest stamp replaces as a whole. The configuration's list
//! stands until the register is written for the first time. An empty list lets everyone in, but for what
//! protected mode keeps out; a list that is not empty takes protected mode's place.
//!
//! Who is asked: [`Engine::admission`], at accept before a byte is read, and for every connection
//! when the list changes. A Unix socket has no address and is always let in. A member whose address is off the list
//! may still connect to become a link, and do nothing else: else a list could cut the cluster apart for good.
//!
//! As bytes: one block per line, an address without its full prefix length, v4-mapped blocks as v4.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Engine;
use super::client::{Client, ClientFlags};
use super::error::Error;
use crate::clock::Stamp;
use crate::config::{block, block_text};
use crate::link::codec::{self, Malformed};

/// Most blocks of a list. Each accept looks at them one by one.
pub const BLOCKS_MAX: usize = 16_384;

/// Answers all but what leads to a link, where the address is a member's and off the list.
pub const LINK_ONLY: Error =
    Error::new("NOPERM this address is not on the allowlist: a member may only use it for its link");

/// Sent to whom protected mode keeps out.
pub const PROTECTED: &str = "-DENIED Meldis is in protected mode: it has no password and no allowlist, so only \
    clients on this machine are served. Set requirepass or an allowlist (MELD ALLOWLIST ADD), or switch \
    protected-mode off if the network is trusted.\r\n";

/// What a connection may do by its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Everything.
    Full,
    /// Authenticate and become a link.
    LinkOnly,
    /// Nothing, and it is told so: [`PROTECTED`].
    Protected,
    /// Nothing: closed at once.
    Refused,
}

/// The blocks and when they were set.
#[derive(Debug)]
pub struct Allowlist {
    stamp: Stamp,
    /// Host bits cut off, v4-mapped as v4.
    blocks: Vec<IpNet>,
}

impl Allowlist {
    /// The list of a configuration: any that is ever set at run time replaces it.
    pub fn configured(blocks: Vec<IpNet>) -> Self {
        Allowlist { stamp: Stamp::NEVER, blocks }
    }

    /// Whether everyone is allowed.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The blocks, in the order they were added.
    pub fn blocks(&self) -> &[IpNet] {
        &self.blocks
    }

    /// Whether clients may come from an address. Time: the number of blocks.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.is_empty() || covers(&self.blocks, ip)
    }

    /// When it was set; [`Stamp::NEVER`] is the configuration's.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The register's value: for a snapshot, or a joining node.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(&self.blocks)
    }

    /// Replaces the list if the stamp is later than its own. Returns whether it did.
    ///
    /// # Errors
    /// If the bytes are no list: letting in whom an unreadable line meant to keep out is not an option.
    pub fn merge(&mut self, stamp: Stamp, bytes: &[u8]) -> Result<bool, Malformed> {
        let blocks = of_bytes(bytes).ok_or_else(|| codec::malformed("an allowlist that is none"))?;
        let later = stamp > self.stamp;
        if later {
            *self = Allowlist { stamp, blocks };
        }
        Ok(later)
    }
}

impl Engine {
    /// What a connection from an address may do; `None` is a Unix socket.
    pub fn admission(&self, ip: Option<IpAddr>) -> Admission {
        self.admission_under(self.allowlist.read().blocks(), ip)
    }

    /// What it could do if these blocks were the allowlist.
    pub(crate) fn admission_under(&self, blocks: &[IpNet], ip: Option<IpAddr>) -> Admission {
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return Admission::Full };
        if blocks.is_empty() {
            let has_password = !self.password.read().is_empty();
            let is_open = ip.is_loopback() || has_password || !self.config.read().protected_mode;
            return if is_open { Admission::Full } else { Admission::Protected };
        }
        if covers(blocks, ip) {
            Admission::Full
        } else if self.is_partner(ip) {
            Admission::LinkOnly
        } else {
            Admission::Refused
        }
    }

    /// Whether an address is a member's or a configured partner's. Names are the link layer's to look up.
    fn is_partner(&self, ip: IpAddr) -> bool {
        // Let go of before the configuration is asked: CLUSTER locks that one first.
        let is_member = self.topology.read().is_member_address(ip);
        let is_it = |host: &str| host.parse::<IpAddr>().is_ok_and(|partner| partner.to_canonical() == ip);
        is_member || self.config.read().equals().any(|partner| is_it(&partner.host))
    }

    /// Decides about a new connection, once it is among [`Self::clients`]: a change of the list before that has not
    /// seen it, a change after that closes it. Returns whether it may stay.
    pub fn admit_client(&self, client: &Client) -> bool {
        match self.admission(client.ip()) {
            Admission::Full => true,
            Admission::LinkOnly => {
                client.set(ClientFlags::LINK_ONLY);
                true
            }
            Admission::Protected | Admission::Refused => false,
        }
    }

    /// Has CONFIG GET show the list, and closes what fell off it.
    pub(crate) fn enforce_allowlist(&self) {
        {
            let allowlist = self.allowlist.read();
            self.config.write().set_allowlist(allowlist.blocks().to_vec());
        }
        for client in &self.clients {
            let is_link = client.flags().contains(ClientFlags::LINK);
            match self.admission(client.ip()) {
                Admission::Full => client.unset(ClientFlags::LINK_ONLY),
                Admission::LinkOnly if client.flags().contains(ClientFlags::LINK_ONLY) => {}
                Admission::LinkOnly | Admission::Protected | Admission::Refused if is_link => {}
                Admission::LinkOnly | Admission::Protected | Admission::Refused => client.kill(),
            }
        }
    }
}

/// Whether one of the blocks holds the address.
pub fn covers(blocks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    blocks.iter().any(|block| block.contains(&ip))
}

/// Blocks as a register's value.
pub fn to_bytes(blocks: &[IpNet]) -> Vec<u8> {
    blocks.iter().map(block_text).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Reads a register's value.
pub fn of_bytes(bytes: &[u8]) -> Option<Vec<IpNet>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let blocks: Vec<IpNet> = text.lines().map(block).collect::<Option<_>>()?;
    (blocks.len() <= BLOCKS_MAX).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{NTP64, NodeId, Origin};

    fn stamp(time: u64) -> Stamp {
        Stamp::new(NTP64(time), Origin::new(NodeId::new(1 << 24), 1))
    }

    fn list(blocks: &str) -> Allowlist {
        let mut list = Allowlist::configured(Vec::new());
        assert_eq!(list.merge(stamp(1), blocks.replace(' ', "\n").as_bytes()), Ok(true));
        list
    }

    #[test]
    fn addresses_match_blocks_however_a_socket_shows_them() {
        let check = |blocks: &str, ip: &str, expected: bool| {
            assert_eq!(list(blocks).allows(ip.parse().unwrap()), expected, "{ip} in {blocks}");
        };
        check("", "8.8.8.8", true);
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "11.1.2.3", false);
        check("10.1.2.3/8", "10.200.0.1", true);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("::ffff:10.0.0.0/104", "10.1.2.3", true);
        check("::ffff:10.0.0.7", "10.0.0.7", true);
        check("10.0.0.0/8 ::1", "::1", true);
        check("10.0.0.0/8 ::1", "::2", false);
        check("fd00::/8", "fd12::9", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "127.0.0.1", false);
    }

    #[test]
    fn the_latest_stamp_wins_in_either_order() {
        let merge = |order: [(u64, &str); 2]| {
            let mut list = Allowlist::configured(vec!["9.9.9.9/32".parse().unwrap()]);
            for (time, blocks) in order {
                list.merge(stamp(time), blocks.as_bytes()).unwrap();
            }
            String::from_utf8(list.to_bytes()).unwrap()
        };
        assert_eq!(merge([(5, "1.0.0.0/8"), (7, "2.0.0.0/8\n::1")]), "2.0.0.0/8\n::1");
        assert_eq!(merge([(7, "2.0.0.0/8\n::1"), (5, "1.0.0.0/8")]), "2.0.0.0/8\n::1");
    }

    #[test]
    fn an_unreadable_list_changes_nothing() {
        let mut list = list("10.0.0.0/8");
        for bytes in [&b"10.0.0.0/8\nhello"[..], b"10.0.0.0/33", b"\xff", b"\n"] {
            assert!(list.merge(stamp(9), bytes).is_err(), "{bytes:?}");
        }
        let long = "10.0.0.1\n".repeat(BLOCKS_MAX + 1);
        assert!(list.merge(stamp(9), long.as_bytes()).is_err());
        assert_eq!(list.to_bytes(), b"10.0.0.0/8");
    }
}
