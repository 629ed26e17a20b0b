//! Replication: the engine's side of the links.
//!
//! The [`Mesh`] decides who gets what; here batches are sequenced out of the outbox, and frames are taken apart: their
//! batches go to [`merging`](super::merging), their ranges to [`ranges`](super::ranges). Driven by the shell, or by the
//! simulator, through five calls: [`Engine::link_open`], [`Engine::link_receive`], [`Engine::link_poll`],
//! [`Engine::link_closed`] and [`Engine::link_tick`].
//!
//! A node that is to follow a primary drops what it holds, and begins a new life, once the primary has accepted it:
//! until then it may still be told otherwise.
//!
//! Locks: the mesh is locked first, then slots and ranges; no command holds a slot or a range when it asks for
//! the mesh, which is why those that ask are kept out of MULTI.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use super::blocking::Unblock;
use super::call::Awaited;
use super::conflicts::Author;
use super::error::Error;
use super::keyspace::Locks;
use super::merging::{FOREIGN_DATABASE, Known};
use super::ranges::{Chunk, Vectors};
use super::{Engine, Now};
use crate::clock::{NTP64, Origin, ntp_span_ms, unix_ms_from_ntp};
use crate::config::{Config, HostPort, PEER_OR_PRIMARY};
use crate::faults::Faults;
use crate::link::backlog::Segment;
use crate::link::batch::{Batch, Register};
use crate::link::codec::{self, Malformed};
use crate::link::frame::{self, Frame, Globals, Hello, Member, Seen};
use crate::link::mesh::{Address, Brought, Event, Fault, LinkId, Mesh, Roster, Timing, Verdict, Want};
use crate::link::outbox::Drained;
use crate::link::vector::{SEQUENCE_MAX, Vector};
use crate::store::shard::RANGES;

/// Between signs of life on a link.
const HEARTBEAT_MS: u64 = 100;

/// Whether a configuration asks for partners or a primary.
pub fn is_wanted(config: &Config) -> bool {
    config.active_replica || !config.peer.is_empty() || !config.replicaof.is_empty()
}

/// The mesh a configuration describes.
pub fn mesh_for(origin: Origin, config: &Config) -> Mesh {
    let (timing, backlog_bytes_max) = limits(config);
    let mut mesh = Mesh::new(announcement(origin, config), timing, backlog_bytes_max);
    for partner in config.replicaof.iter().chain(&config.peer) {
        mesh.add_address(mesh_address(partner));
    }
    mesh
}

fn limits(config: &Config) -> (Timing, usize) {
    let timing = Timing {
        heartbeat_ms: HEARTBEAT_MS,
        timeout_ms: config.repl_timeout_s.saturating_mul(1000),
        absence_ms: config.peer_max_absence_s.saturating_mul(1000),
        backlog_ms: Some(config.repl_backlog_ttl_s.saturating_mul(1000)).filter(|ms| *ms > 0),
    };
    (timing, usize::try_from(config.repl_backlog_size).unwrap_or(usize::MAX))
}

/// A partner's address as the mesh knows it.
pub fn mesh_address(partner: &HostPort) -> Address {
    (partner.host.clone(), partner.port)
}

/// The primary a configuration has the node follow.
pub(super) fn primary(config: &Config) -> Option<Address> {
    config.replicaof.first().filter(|_| is_follower(config)).map(mesh_address)
}

/// Whether a configuration has the node follow a primary.
pub fn is_follower(config: &Config) -> bool {
    !config.replicaof.is_empty() && !config.active_replica
}

fn announcement(origin: Origin, config: &Config) -> Member {
    let host =
        config.replica_announce_ip.clone().or_else(|| config.cluster_announce_ip.clone()).unwrap_or_default();
    let port = config.replica_announce_port.or(config.cluster_announce_port).unwrap_or(config.port);
    Member { origin, host, port, follower: is_follower(config) }
}

/// Tasks of links that sleep until there is something to send.
#[derive(Debug, Default)]
pub struct Wakers {
    /// Somebody sleeps.
    armed: AtomicBool,
    wakers: Mutex<Vec<(LinkId, Waker)>>,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Taken.
    Taken,
    /// The peer's stamps are ahead of this node's clock: offer the same frame again later.
    Held,
}

/// A segment as it came over a link.
struct Arrived<'a> {
    link: LinkId,
    origin: Origin,
    first: u64,
    count: u64,
    watermark: NTP64,
    seen: Seen,
    batches: &'a [u8],
}

/// What a giver has said.
struct Differs {
    vector: Vector,
    ranges: Vec<u16>,
    graves: Vec<u16>,
    globals: Globals,
}

impl Engine {
    /// A connection to a peer is there and authenticated. `dialed` is the address this node dialed, if it did;
    /// `seen_host` the address the peer is seen under.
    pub fn link_open(&self, id: LinkId, dialed: Option<Address>, seen_host: String, now: Now) {
        self.start_replicating();
        let mut mesh = self.mesh.lock();
        mesh.open(id, dialed, seen_host, self.registers.all(), now.unix_ms);
    }

    /// What is to be kept of the others over a restart.
    pub fn roster(&self, now: Now) -> Roster {
        Roster {
            members: self.mesh.lock().known(now.unix_ms),
            forgotten: self.registers.forgotten().into_iter().collect(),
        }
    }

    /// Takes up what was kept of the others. To be called before anything else is done.
    pub fn restore(&self, roster: Roster, now: Now) {
        for (node, stamp) in &roster.forgotten {
            self.registers.merge(Register::Forgotten(*node), *stamp, b"");
        }
        if self.is_follower() || self.is_planted(Faults::FORGOTTEN_MEMBERS) {
            return;
        }
        if !roster.members.is_empty() {
            self.start_replicating();
        }
        let mut mesh = self.mesh.lock();
        mesh.forget(self.registers.forgotten().into_keys().collect());
        mesh.restore(roster.members, now.unix_ms);
    }

    /// Changes whom this node is linked with: partners of an active node, or the one primary it follows.
    ///
    /// # Errors
    /// If it is to follow, but has equals by its configuration, or the life it then begins cannot be set aside on disk.
    pub fn replace_partners(&self, partners: Vec<HostPort>) -> Result<(), Error> {
        let (active, has_peers) = {
            let config = self.config.read();
            (config.active_replica, !config.peer.is_empty())
        };
        let follows = !partners.is_empty() && !active;
        if follows && has_peers {
            return Err(format!("ERR {PEER_OR_PRIMARY}").into());
        }
        let next_life = if follows { Some(self.reserve_life()?) } else { None };
        let announced = {
            let mut config = self.config.write();
            config.set_replicaof(partners);
            announcement(self.clock.origin(), &config)
        };
        let partners: Vec<Address> = {
            let config = self.config.read();
            config.replicaof.iter().chain(&config.peer).map(mesh_address).collect()
        };
        if !partners.is_empty() {
            self.start_replicating();
        }
        {
            let mut mesh = self.mesh.lock();
            *self.next_life.lock() = next_life;
            if self.follower.swap(follows, Ordering::SeqCst) && !follows {
                self.note_alone(&mut mesh);
            }
            mesh.announce(announced.host, announced.port, follows);
            mesh.set_addresses(partners);
            if follows {
                mesh.end_links(&Fault::Anew);
            }
        }
        // Whom it is linked with is to be known after a crash, too.
        if let Some(host) = self.host.get() {
            host.keep_members();
        }
        if follows {
            self.clients.iter().for_each(|client| {
                self.unblock(&client, Unblock::Follows);
            });
        }
        Ok(())
    }

    /// Whom this node follows, or is to follow.
    pub fn primary(&self) -> Option<Address> {
        primary(&self.config.read())
    }

    /// Drops what is read back so far: it was dropped when it was there.
    pub(super) fn drop_data(&self) {
        let mut mesh = self.mesh.lock();
        if let Locks::All(mut cells) = Locks::all(self) {
            cells.iter_mut().for_each(|cell| drop(std::mem::take(&mut cell.shard)));
        }
        self.databases.forget();
        mesh.begin_life(self.clock.origin());
    }

    fn reserve_life(&self) -> Result<Origin, Error> {
        let own = self.clock.origin();
        match self.host.get() {
            Some(host) => host.reserve_life().map_err(|reason| format!("ERR {reason}").into()),
            None => Ok(Origin::new(own.node(), own.incarnation() + 1)),
        }
    }

    /// Whether this node follows a primary and takes no writes.
    pub fn is_follower(&self) -> bool {
        self.follower.load(Ordering::Relaxed)
    }

    /// A replica's data is its primary's: what it held before is dropped once the primary's Hello is accepted. Others may hold
    /// what it wrote and now forgets, so a new life begins, as after a crash. Until then no other link is taken, and this
    /// one is closed: nobody is to get what will be dropped.
    fn begin_following(&self, mesh: &mut Mesh) {
        let Locks::All(mut cells) = Locks::all(self) else { return };
        // A thread may hold its slot and wait for a range: then this is not the moment, and the primary is dialed again.
        let Some(mut slots) = self.outbox.try_lock_all() else { return };
        let Some(origin) = self.next_life.lock().take() else { return };
        let mut dropped = Vec::new();
        for cell in cells.iter_mut().filter(|_| !self.is_planted(Faults::KEPT_DATA)) {
            cell.touch_keys(|_, _| true);
            dropped.push(std::mem::take(&mut cell.shard));
        }
        slots.iter_mut().for_each(|slot| slot.bytes.clear());
        self.databases.forget();
        self.clock.begin_life(origin);
        mesh.begin_life(origin);
        self.set_stable(NTP64(0));
        self.note_dropped(self.primary());
        drop((cells, slots));
        drop(dropped);
    }

    /// A connection to a peer has ended.
    pub fn link_closed(&self, id: LinkId, fault: Fault, now: Now) {
        self.link_wakers.wakers.lock().retain(|(held, _)| *held != id);
        let mut mesh = self.mesh.lock();
        mesh.closed(id, fault, now.unix_ms);
        self.refresh_topology(&mesh, now);
    }

    /// What happened on the links since this was last asked.
    pub fn take_link_events(&self) -> Vec<Event> {
        self.mesh.lock().take_events()
    }

    /// Why a link is to be closed, if it is.
    pub fn link_fault(&self, id: LinkId) -> Option<Fault> {
        match self.mesh.lock().link(id) {
            Some(link) => link.fault.clone(),
            None => Some(Fault::Closed),
        }
    }

    /// Most bytes a frame's body may have on this link now.
    pub fn link_body_bytes_max(&self, id: LinkId) -> usize {
        match self.mesh.lock().link(id) {
            Some(link) if link.peer.is_some() => frame::FRAME_BYTES_MAX,
            _ => frame::HELLO_BYTES_MAX,
        }
    }

    /// Bytes came over a link; to be told apart from silence.
    pub fn link_heard(&self, id: LinkId, now: Now) {
        self.mesh.lock().heard(id, now.unix_ms);
    }

    /// A whole frame has come that did not wait to be read, though it may have to be taken: [`Self::link_receive`] follows in
    /// its turn. Heartbeats are timed here.
    pub fn link_seen(&self, id: LinkId, bytes: &[u8], now: Now) {
        if let Some(heartbeat) = frame::heartbeat(bytes) {
            self.mesh.lock().timed(id, &heartbeat, now.unix_us());
        }
    }

    /// To be called at least every `HEARTBEAT_MS`: moves the clock and the stable time on, closes silent links.
    pub fn link_tick(&self, now: Now) {
        if !self.is_replicating() {
            return;
        }
        let mut mesh = self.mesh.lock();
        let (timing, backlog_bytes_max) = limits(&self.config.read());
        mesh.configure(timing, backlog_bytes_max);
        if self.step_back(&mut mesh, now) {
            self.begin_epoch();
            tracing::warn!("This node's clock was set back: stamps that no partner had taken are given back");
        }
        // A promise for the present: whatever this node writes from here on is stamped later.
        self.clock.observe(now.ntp);
        self.sequence(&mut mesh);
        mesh.tick(now.unix_ms);
        self.refresh_topology(&mesh, now);
        mesh.forget(self.registers.forgotten().into_keys().collect());
        if let Some((id, want)) = mesh.pull_due() {
            mesh.begin_pull(id, want, self.range_digests(), now.unix_ms);
        }
        let stable = mesh.stable(now.unix_ms);
        self.set_stable(stable);
    }

    /// Takes one whole frame of a link.
    ///
    /// # Errors
    /// Why the link is to be closed.
    pub fn link_receive(&self, id: LinkId, bytes: &[u8], now: Now, thread: usize) -> Result<Received, Fault> {
        let (frame, tail) = frame::read(bytes).map_err(Fault::Frame)?;
        let mut mesh = self.mesh.lock();
        let link = mesh.link(id).ok_or(Fault::Closed)?;
        let known = link.peer.is_some();
        match &link.fault {
            // It has acknowledged what it sent before it knew of the better link.
            Some(Fault::Duplicate) if known && matches!(frame, Frame::Segment { .. }) => {}
            Some(Fault::Duplicate) if known => return Ok(Received::Taken),
            Some(fault) => return Err(fault.clone()),
            None => {}
        }
        if !known && !matches!(frame, Frame::Hello(_)) {
            return Err(Fault::Unexpected("something before Hello"));
        }
        let received = self.receive(&mut mesh, id, frame, tail, now, thread)?;
        if received == Received::Taken {
            // Whatever held the link, be it that its batches came by another.
            mesh.hold(id, None);
        }
        Ok(received)
    }

    fn receive(
        &self,
        mesh: &mut Mesh,
        id: LinkId,
        frame: Frame,
        tail: &[u8],
        now: Now,
        thread: usize,
    ) -> Result<Received, Fault> {
        match frame {
            Frame::Hello(hello) => self.receive_hello(mesh, id, hello, now)?,
            Frame::Segment { origin, first, count, watermark, seen } => {
                let arrived = Arrived { link: id, origin, first, count, watermark, seen, batches: tail };
                let received = self.receive_segment(mesh, arrived, now, thread)?;
                if received == Received::Taken {
                    mesh.taken(id, origin, first + count - 1);
                }
                return Ok(received);
            }
            Frame::Heartbeat(heartbeat) => {
                mesh.heartbeat(id, heartbeat, self.time_limit(now), now.unix_us())?;
                let stable = mesh.stable(now.unix_ms);
                self.set_stable(stable);
            }
            Frame::Ask => mesh.asked(id),
            Frame::Members(members) => mesh.told_of(id, members, now.unix_ms),
            Frame::Gap => {
                if mesh.told_of_gap(id) {
                    mesh.begin_pull(id, Want::All, self.range_digests(), now.unix_ms);
                }
            }
            Frame::PullBegin { digests, only } => self.give(mesh, id, &digests, only.as_deref(), now),
            Frame::Differs { vector, ranges, graves, globals } => {
                return self.receive_differs(
                    mesh,
                    id,
                    Differs { vector, ranges, graves, globals },
                    now,
                    thread,
                );
            }
            Frame::Pull { range, from, graves } => {
                range_number(range)?;
                mesh.requested(id, range, from, graves)?;
            }
            Frame::Chunk { range, from, to, graves } => {
                let chunk = Chunk { range: range_number(range)?, from, to, graves, records: tail };
                return self.receive_chunk(mesh, id, &chunk, now, thread);
            }
            Frame::Compare { vector, digests } => self.compare(mesh, id, &vector, &digests),
            Frame::Compared { differ, unsure } => mesh.compared(id, &differ, &unsure),
            Frame::Bye => {
                mesh.leaving(id);
                self.refresh_topology(mesh, now);
            }
        }
        Ok(Received::Taken)
    }

    fn receive_hello(&self, mesh: &mut Mesh, id: LinkId, hello: Hello, now: Now) -> Result<(), Fault> {
        let registers = hello.registers.clone();
        let is_about_to_follow = self.next_life.lock().is_some();
        if is_about_to_follow && !mesh.is_dialed_as_configured(id) {
            return Err(Fault::Anew);
        }
        let accepted = mesh.hello(id, hello, now.unix_ms);
        let own = self.clock.origin().node();
        let taken = |register: Register| match &accepted {
            Ok(()) => !is_about_to_follow,
            // Of a peer that refuses this node only why it does.
            Err(fault) => *fault == Fault::Forgotten(own) && register == Register::Forgotten(own),
        };
        // Those from the future come again, in a batch that is held.
        let limit = self.time_limit(now);
        let registers = registers.iter().filter(|(_, stamp, _)| stamp.time <= limit);
        for (register, stamp, value) in registers.filter(|(register, ..)| taken(*register)) {
            self.clock.observe(stamp.time);
            mesh.took(stamp.time);
            self.merge_register(*register, *stamp, value);
        }
        accepted?;
        if is_about_to_follow {
            self.begin_following(mesh);
            return Err(Fault::Anew);
        }
        self.refresh_topology(mesh, now);
        Ok(())
    }

    /// A peer pulls: it gets to know which ranges differ.
    fn give(&self, mesh: &mut Mesh, id: LinkId, digests: &[(u16, u64)], only: Option<&[u16]>, now: Now) {
        mesh.end_recall(now.unix_ms);
        self.sequence(mesh);
        let globals = self.globals();
        // The vector was fixed before the first digest is compared: what is written from here on is sent.
        let (ranges, graves) = self.compare_ranges(digests, only);
        mesh.give(id, ranges, graves, globals);
        if only.is_none() {
            mesh.pass_over(id);
        }
    }

    fn receive_differs(
        &self,
        mesh: &mut Mesh,
        id: LinkId,
        Differs { vector, ranges, graves, globals }: Differs,
        now: Now,
        thread: usize,
    ) -> Result<Received, Fault> {
        if globals.swaps.databases() > self.databases() {
            return Err(Fault::Frame(codec::malformed(FOREIGN_DATABASE).into()));
        }
        ranges.iter().chain(&graves).try_for_each(|range| range_number(*range).map(drop))?;
        let flushes = globals.flushes.iter().map(|(_, stamp)| *stamp);
        let registers = globals.registers.iter().map(|(_, stamp, _)| *stamp);
        let stamps = flushes.chain(registers).chain(globals.swaps.stamps());
        let promises = vector.iter().map(|(_, progress)| progress.watermark);
        let newest = stamps.map(|stamp| stamp.time).chain(promises).max();
        if self.is_ahead(mesh, id, newest, now) {
            return Ok(Received::Held);
        }
        self.sequence_unseeing(mesh);
        if mesh.differs(id, vector.clone(), &ranges, &graves) {
            mesh.took(newest.unwrap_or(NTP64(0)));
            let author = Author::Gives(mesh.peer_of(id), &vector);
            let known = self.known(mesh, vector.of(self.clock.origin()).watermark);
            self.merge_globals(&globals, author, known, now, thread);
            self.note_given(mesh, mesh.peer_of(id), vector, globals);
        }
        Ok(Received::Taken)
    }

    fn receive_chunk(
        &self,
        mesh: &mut Mesh,
        id: LinkId,
        chunk: &Chunk<'_>,
        now: Now,
        thread: usize,
    ) -> Result<Received, Fault> {
        let Some(theirs) = mesh.given(id) else { return Ok(Received::Taken) };
        let newest = newest_time(chunk.records).map_err(frame::FrameError::from)?;
        if self.is_ahead(mesh, id, newest, now) {
            return Ok(Received::Held);
        }
        mesh.took(newest.unwrap_or(NTP64(0)));
        let known = self.known(mesh, theirs.of(self.clock.origin()).watermark);
        let vectors = Vectors { known, theirs: &theirs, giver: mesh.peer_of(id) };
        let changed_keys = self.merge_range(chunk, vectors, now, thread).map_err(frame::FrameError::from)?;
        self.note_chunk(mesh, chunk);
        let brought = Brought { bytes: chunk.records.len(), changed_keys };
        mesh.pulled(id, chunk.range as u16, chunk.to, chunk.graves, brought);
        self.note_pulled(mesh);
        Ok(Received::Taken)
    }

    fn receive_segment(
        &self,
        mesh: &mut Mesh,
        arrived: Arrived<'_>,
        now: Now,
        thread: usize,
    ) -> Result<Received, Fault> {
        let Arrived { link, origin, first, count, watermark, seen, batches } = arrived;
        if count == 0 || first == 0 || first.saturating_add(count) > SEQUENCE_MAX {
            return Err(Fault::Unexpected("a Segment of no batches, or of such as never were"));
        }
        let skip = match mesh.judge(origin, first, count)? {
            Verdict::Repeat => return Ok(Received::Taken),
            Verdict::Merge { skip } => skip,
        };
        let malformed = |error: Malformed| Fault::Frame(error.into());
        let limit = self.time_limit(now);
        self.sequence_unseeing(mesh);
        let own = self.clock.origin();
        let seen_here = seen.iter().find(|(of, _)| *of == own).map_or(NTP64(0), |(_, time)| *time);
        // What came before is not counted: it may be known only to a pull that has not ended.
        let fresh = first + skip;
        let part = |number: u64, bytes: &[u8], watermark: NTP64| Segment {
            first: fresh,
            count: number - fresh,
            watermark,
            seen: seen.clone(),
            batches: bytes::Bytes::copy_from_slice(bytes),
        };
        let (mut rest, mut skipped) = (batches, 0);
        let (mut number, mut newest) = (first, NTP64(0));
        while let Some((batch, behind)) = Batch::split(rest).map_err(malformed)? {
            if number == fresh {
                skipped = batches.len() - rest.len();
            }
            if number >= fresh {
                let mut records = batch.read().map_err(malformed)?;
                if records.newest > limit {
                    self.is_ahead(mesh, link, Some(records.newest), now);
                    if number > fresh {
                        let taken = batches.len() - rest.len();
                        // Whatever follows is stamped no earlier than this one.
                        let watermark = newest.min(NTP64(batch.time.0.saturating_sub(1)));
                        self.merged(mesh, origin, part(number, &batches[skipped..taken], watermark));
                    }
                    return Ok(Received::Held);
                }
                newest = newest.max(records.newest);
                mesh.took(newest);
                mesh.changes(records.ranges());
                let delivers = mesh.delivers(origin, number);
                let known = self.known(mesh, seen_here);
                if self.tears(now) {
                    records.list.truncate(records.list.len() / 2);
                    self.merge_batch(origin, records, known, now, thread).map_err(malformed)?;
                    return Err(Fault::Closed);
                }
                if !delivers {
                    records.list.retain(|record| !record.is_message());
                }
                self.merge_batch(origin, records, known, now, thread).map_err(malformed)?;
            }
            rest = behind;
            number += 1;
        }
        if number != first + count {
            return Err(Fault::Unexpected("a Segment of another length than it says"));
        }
        // A promise from the future may be given back, but for what was taken under it.
        let watermark = if watermark <= limit { watermark } else { newest };
        self.merged(mesh, origin, part(number, &batches[skipped..], watermark));
        Ok(Received::Taken)
    }

    /// Before something is merged: what is in the outbox was written without it, and is to say so.
    fn sequence_unseeing(&self, mesh: &mut Mesh) {
        if self.outbox.is_filled() {
            self.sequence(mesh);
        }
    }

    /// What either side knows of the other's writes; `seen` is up to when the peer has merged this node's.
    fn known<'m>(&self, mesh: &'m Mesh, seen: NTP64) -> Known<'m> {
        Known { own: mesh.vector(), seen, written: mesh.written() }
    }

    /// The latest time a peer's stamp or promise may carry.
    pub(super) fn time_limit(&self, now: Now) -> NTP64 {
        NTP64(now.ntp.0.saturating_add(ntp_span_ms(self.config.read().max_clock_drift_ms)))
    }

    /// Whether a time is further ahead than `max-clock-drift` allows: then the link holds.
    fn is_ahead(&self, mesh: &mut Mesh, id: LinkId, newest: Option<NTP64>, now: Now) -> bool {
        let limit = self.time_limit(now);
        let ahead = newest.filter(|time| *time > limit);
        mesh.hold(id, ahead.map(|time| unix_ms_from_ntp(time).saturating_sub(now.unix_ms)));
        ahead.is_some()
    }

    /// Moves complete batches of this node from the outbox into its sequence.
    pub(super) fn sequence(&self, mesh: &mut Mesh) {
        let mut drained = Drained::default();
        let watermark = self.promise(self.outbox.drain(&self.clock, &mut drained));
        self.put_in_sequence(mesh, drained, watermark);
    }

    pub(super) fn put_in_sequence(&self, mesh: &mut Mesh, drained: Drained, watermark: NTP64) {
        let count = drained.count;
        mesh.sequence(count, drained.bytes, watermark);
        if count > 0 {
            self.note_own(mesh);
        }
    }

    /// Moves what was written into the backlog, whose limit then bounds it. For when no link takes any of it.
    pub fn link_sequence(&self) {
        self.sequence(&mut self.mesh.lock());
    }

    /// Sequences what was written, and returns the number of the last batch: what WAIT waits for.
    pub fn sequence_now(&self) -> u64 {
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        mesh.ask_all();
        // What was written while there is nobody to tell gets its number with the first peer.
        let is_untold = !self.is_replicating() && self.clock.last().0 > 0;
        mesh.vector().of(self.clock.origin()).sequence + u64::from(is_untold)
    }

    /// What a client that waits is to be answered, and whether that is what it waits for. `sequence` is what
    /// [`Self::sequence_now`] said when it began to.
    pub fn answer(&self, awaited: &Awaited, sequence: u64) -> (i64, bool) {
        match awaited {
            Awaited::Replicas(count) => {
                let held = self.mesh.lock().acknowledged(sequence);
                (held as i64, held >= *count)
            }
            Awaited::Vector(vector) => {
                let reached = self.has_reached(vector);
                (reached.into(), reached)
            }
        }
    }

    /// Appends what a link has to send next. Returns whether there is more; if not, the task sleeps until woken
    /// or until the next heartbeat.
    pub fn link_poll(&self, id: LinkId, now: Now, out: &mut Vec<u8>) -> bool {
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        mesh.poll(id, now.unix_us(), out);
        if let Some(ranges) = mesh.comparison_due(id, now.unix_ms) {
            self.ask_to_compare(&mut mesh, id, &ranges, out);
        }
        if let Some((range, from, equal)) = mesh.next_request(id) {
            // Everything the piece may hold is sequenced behind it or sent already; the mesh stays unlocked for others.
            drop(mesh);
            let piece = self.read_range(range.into(), from, equal);
            let chunk = Frame::Chunk { range, from, to: piece.to, graves: piece.graves };
            frame::write(&chunk, &piece.records, out);
            return true;
        }
        mesh.wants_to_send(id) || self.outbox.is_filled()
    }

    /// Appends batches a link has to send next, and nothing that takes long to gather. A link that is about to be
    /// closed sends no more: it may be closed because what is written from now on is not for the peer.
    pub fn link_poll_batches(&self, id: LinkId, now: Now, out: &mut Vec<u8>) {
        let mut mesh = self.mesh.lock();
        self.sequence(&mut mesh);
        if mesh.link(id).is_none_or(|link| link.fault.is_some()) {
            return;
        }
        mesh.poll(id, now.unix_us(), out);
    }

    /// Appends the question whether the peer holds the same in these ranges; see `link/mesh/comparing.rs`. Everything
    /// this node has was sent before.
    fn ask_to_compare(&self, mesh: &mut Mesh, id: LinkId, ranges: &[u16], out: &mut Vec<u8>) {
        let vector = mesh.vector().clone();
        let mut digests: Vec<(u16, u64)> =
            ranges.iter().map(|range| (*range, self.compared_digest(*range))).collect();
        self.sequence(mesh);
        // Written while the digests were taken: whether they tell of it is not known.
        match mesh.touched_since(&vector) {
            Some(touched) => digests.retain(|(range, _)| !touched.contains(range)),
            None => digests.clear(),
        }
        mesh.asks(id, digests.iter().map(|(range, _)| *range).collect());
        frame::write(&Frame::Compare { vector, digests }, &[], out);
    }

    /// Answers that question.
    fn compare(&self, mesh: &mut Mesh, id: LinkId, vector: &Vector, digests: &[(u16, u64)]) {
        self.sequence(mesh);
        let differ = digests.iter().filter(|(range, digest)| self.compared_digest(*range) != *digest);
        let differ: Vec<u16> = differ.map(|(range, _)| *range).collect();
        self.sequence(mesh);
        let touched = if mesh.can_compare(vector) { mesh.touched_since(vector) } else { None };
        let (unsure, differ) = match touched {
            Some(touched) => differ.into_iter().partition(|range| touched.contains(range)),
            None => (differ, Vec::new()),
        };
        mesh.answer_comparison(id, differ, unsure);
    }

    /// Has a link's task woken when there is something to send.
    pub fn link_sleep(&self, id: LinkId, waker: &Waker) {
        let mut wakers = self.link_wakers.wakers.lock();
        match wakers.iter_mut().find(|(held, _)| *held == id) {
            Some((_, held)) => held.clone_from(waker),
            None => wakers.push((id, waker.clone())),
        }
        self.link_wakers.armed.store(true, Ordering::SeqCst);
        drop(wakers);
        if self.outbox.is_filled() {
            self.wake_links();
        }
    }

    /// Wakes the tasks of links if something was written. Called once per read buffer.
    pub fn wake_links(&self) {
        if self.outbox.is_filled() && self.link_wakers.armed.swap(false, Ordering::SeqCst) {
            self.wake_all_links();
        }
    }

    /// Wakes the tasks of links, whatever was written.
    pub fn wake_all_links(&self) {
        self.link_wakers.wakers.lock().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }
}

/// A range by the number a peer tells.
fn range_number(range: u16) -> Result<usize, Fault> {
    let range = usize::from(range);
    if range < RANGES { Ok(range) } else { Err(Fault::Unexpected("a range that is none")) }
}

/// The newest time in a piece of a range.
fn newest_time(records: &[u8]) -> Result<Option<NTP64>, Malformed> {
    match Batch::split(records)? {
        Some((batch, _)) => batch.newest().map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;
    use crate::clock::Stamp;
    use crate::engine::testing::Fixture;
    use crate::link::frame::{Cursor, Globals, Swaps, VERSION};

    const NOW: Now = Now { unix_ms: 1_700_000_000_000, ntp: NTP64(1_700_000_000 << 32) };

    /// What becomes of a link whose peer says this Hello. `here` has dialed it if the address is configured.
    fn greet(here: &Fixture, id: LinkId, address: &str, version: u16, sender: Origin) -> Result<(), Fault> {
        let member = Member { origin: sender, host: "primary".into(), port: 7000, follower: false };
        let (vector, members, registers) = (Vector::default(), Vec::new(), Vec::new());
        let hello = Hello { version, sender: member, vector, members, registers };
        let mut bytes = Vec::new();
        frame::write(&Frame::Hello(hello), &[], &mut bytes);
        let is_dialed = here.engine.mesh.lock().addresses().any(|(at, _)| at.0 == address);
        let dialed = is_dialed.then(|| (address.into(), 7000));
        here.engine.link_open(id, dialed, address.into(), NOW);
        let result = here.engine.link_receive(id, &bytes, NOW, 0).map(|_| ());
        if let Err(fault) = &result {
            here.engine.link_closed(id, fault.clone(), NOW);
        }
        result
    }

    #[test]
    fn wait_does_not_count_a_first_replica_that_has_yet_to_pull() {
        let mut node = Fixture::new();
        assert_eq!(node.engine.sequence_now(), 0);
        node.run("SET k v");
        let awaited = node.engine.sequence_now();
        node.engine.start_replicating();
        assert_eq!((awaited, node.engine.sequence_now()), (1, 1));
    }

    #[test]
    fn a_node_drops_its_data_only_for_a_primary_that_accepts_it() {
        let mut here = Fixture::new();
        let own = here.engine.clock.origin();
        let primary = Origin::new(NodeId::new(7 << 24), 1);
        here.check("SET k v", "+OK");
        here.check("SWAPDB 0 1", "+OK");
        here.check("REPLICAOF primary 7000", "+OK");
        let copied = Origin::new(own.node(), 9);
        assert_eq!(greet(&here, 1, "primary", VERSION + 1, primary), Err(Fault::Version(VERSION + 1)));
        assert_eq!(greet(&here, 2, "primary", VERSION, own), Err(Fault::Itself));
        assert_eq!(greet(&here, 3, "primary", VERSION, copied), Err(Fault::SameId(own.node())));
        assert_eq!(greet(&here, 4, "elsewhere", VERSION, primary), Err(Fault::Anew));
        here.check("SELECT 1", "+OK");
        here.check("GET k", "$1 v");
        assert_eq!(here.engine.clock.origin(), own);

        assert_eq!(greet(&here, 5, "primary", VERSION, primary), Err(Fault::Anew), "it begins anew");
        here.check("DBSIZE", ":0");
        assert!(here.engine.clock.origin() > own && here.engine.clock.origin().node() == own.node());
        assert_eq!(here.engine.mesh.lock().vector(), &Vector::default());
        assert_eq!(here.engine.space_of(0), 0);
        assert_eq!(greet(&here, 6, "primary", VERSION, primary), Ok(()));
    }

    /// Takes a batch of a peer over a link that is up.
    fn receive(here: &Fixture, id: LinkId, origin: Origin, first: u64, batch: &[u8]) {
        let watermark = Batch::split(batch).unwrap().unwrap().0.newest().unwrap();
        let mut bytes = Vec::new();
        let seen = Seen::new();
        frame::write(&Frame::Segment { origin, first, count: 1, watermark, seen }, batch, &mut bytes);
        assert_eq!(here.engine.link_receive(id, &bytes, NOW, 0), Ok(Received::Taken));
    }

    #[test]
    fn what_makes_no_sense_ends_the_link_and_nothing_else() {
        let here = Fixture::replicating();
        let (own, peer) = (here.engine.clock.origin(), Origin::new(NodeId::new(7 << 24), 1));
        let segment = |origin: Origin, first: u64| {
            let watermark = NTP64(0);
            Frame::Segment { origin, first, count: 2, watermark, seen: Vec::new() }
        };
        let from = Cursor::default();
        let differs = |ranges: Vec<u16>, globals: Globals| {
            let (vector, graves) = (Vector::default(), Vec::new());
            Frame::Differs { vector, ranges, graves, globals }
        };
        let swaps = Swaps { since: vec![(Stamp::new(NTP64(1), peer), 0, 16)], ..Swaps::default() };
        for (at, frame) in (1..).zip([
            segment(own, u64::MAX),
            segment(peer, u64::MAX - 1),
            Frame::Pull { range: RANGES as u16, from, graves: false },
            Frame::Chunk { range: RANGES as u16, from, to: None, graves: false },
            differs(vec![RANGES as u16], Globals::default()),
            differs(Vec::new(), Globals { swaps, ..Globals::default() }),
        ]) {
            assert_eq!(greet(&here, at, "peer", VERSION, peer), Ok(()));
            here.engine.mesh.lock().begin_pull(at, Want::All, Vec::new(), NOW.unix_ms);
            let mut bytes = Vec::new();
            if matches!(frame, Frame::Chunk { .. }) {
                frame::write(&differs(vec![0], Globals::default()), &[], &mut bytes);
                assert_eq!(here.engine.link_receive(at, &bytes, NOW, 0), Ok(Received::Taken));
                bytes.clear();
            }
            frame::write(&frame, &[], &mut bytes);
            let fault = here.engine.link_receive(at, &bytes, NOW, 0).expect_err("it makes no sense");
            assert!(matches!(fault, Fault::Unexpected(_) | Fault::Frame(_)), "{frame:?}: {fault}");
            here.engine.link_closed(at, fault, NOW);
        }
    }

    #[test]
    fn what_was_written_before_a_batch_came_does_not_claim_to_have_seen_it() {
        let (mut here, mut there) = (Fixture::replicating(), Fixture::numbered(2));
        there.engine.start_replicating();
        let (own, peer) = (here.engine.clock.origin(), there.engine.clock.origin());
        assert_eq!(greet(&here, 1, "peer", VERSION, peer), Ok(()));
        here.check("SET k here", "+OK");
        there.check("SET k there", "+OK");
        receive(&here, 1, peer, 1, &there.written());
        here.check("SET k again", "+OK");
        here.engine.sequence_now();
        let mesh = here.engine.mesh.lock();
        let came = there.engine.clock.last();
        let seen = |segment: &Segment| segment.seen.iter().any(|(of, time)| *of == peer && *time >= came);
        assert_eq!(mesh.backlog().after(own, 0).map(seen).collect::<Vec<_>>(), [false, true]);
        assert_eq!(here.engine.conflicts.entries().iter().len(), 1, "the peer had not seen the first");
    }

    #[test]
    fn who_pulls_a_few_ranges_gets_what_was_not_sent_yet_all_the_same() {
        for (only, is_sent) in [(Some(vec![7]), true), (None, false)] {
            let mut here = Fixture::replicating();
            assert_eq!(greet(&here, 1, "peer", VERSION, Origin::new(NodeId::new(7 << 24), 1)), Ok(()));
            let mut bytes = Vec::new();
            here.engine.link_poll(1, NOW, &mut bytes);
            here.check("SET k v", "+OK");
            bytes.clear();
            frame::write(&Frame::PullBegin { digests: Vec::new(), only }, &[], &mut bytes);
            assert_eq!(here.engine.link_receive(1, &bytes, NOW, 0), Ok(Received::Taken));
            bytes.clear();
            here.engine.link_poll(1, NOW, &mut bytes);
            let (mut rest, mut sent) = (&bytes[..], false);
            while let Some(length) = frame::length(rest, frame::FRAME_BYTES_MAX).unwrap() {
                sent |= matches!(frame::read(&rest[..length]).unwrap().0, Frame::Segment { .. });
                rest = &rest[length..];
            }
            assert_eq!(sent, is_sent);
        }
    }

    #[test]
    fn a_link_is_not_held_by_what_came_over_another() {
        let here = Fixture::replicating();
        let [ahead, other] = [7, 8].map(|node| Origin::new(NodeId::new(node << 24), 1));
        let mut there = Fixture::numbered(7);
        there.engine.start_replicating();
        there.now_ms = NOW.unix_ms + 60_000;
        there.check("SET k v", "+OK");
        let batch = there.written();
        let watermark = Batch::split(&batch).unwrap().unwrap().0.newest().unwrap();
        let mut bytes = Vec::new();
        let frame = Frame::Segment { origin: ahead, first: 1, count: 1, watermark, seen: Seen::new() };
        frame::write(&frame, &batch, &mut bytes);
        assert_eq!(greet(&here, 1, "ahead", VERSION, ahead), Ok(()));
        assert_eq!(greet(&here, 2, "other", VERSION, other), Ok(()));
        let is_held = || here.engine.mesh.lock().link(1).is_some_and(|link| link.held);
        assert_eq!(here.engine.link_receive(1, &bytes, NOW, 0), Ok(Received::Held));
        assert!(is_held());
        let later = Now::from_unix_ns(u128::from(there.now_ms) * 1_000_000);
        assert_eq!(here.engine.link_receive(2, &bytes, later, 0), Ok(Received::Taken));
        assert_eq!(here.engine.link_receive(1, &bytes, later, 0), Ok(Received::Taken), "a repeat");
        assert!(!is_held(), "else its silence would never be noticed");
    }

    #[test]
    fn an_lset_does_not_bring_back_an_item_whose_tombstone_is_gone() {
        let (mut here, mut there) = (Fixture::replicating(), Fixture::numbered(2));
        there.engine.start_replicating();
        let peer = there.engine.clock.origin();
        assert_eq!(greet(&here, 1, "peer", VERSION, peer), Ok(()));
        there.check("RPUSH l a b", ":2");
        receive(&here, 1, peer, 1, &there.written());
        here.check("LPOP l", "$1 a");
        here.engine.set_stable(here.engine.clock.last());
        here.tick();
        // Its author was away for long, and has not seen the removal.
        there.check("LSET l 0 late", "+OK");
        receive(&here, 1, peer, 2, &there.written());
        there.check("LSET l 1 B", "+OK");
        receive(&here, 1, peer, 3, &there.written());
        here.check("LRANGE l 0 -1", "*1 $1 B");
        here.check("LPOP l", "$1 B");
        here.engine.set_stable(here.engine.clock.last());
        here.tick();
        there.check("LSET l 1 late", "+OK");
        receive(&here, 1, peer, 4, &there.written());
        here.check("EXISTS l", ":0");
        // Nor does a range of that node.
        let range = here.engine.hash(b"l").range();
        let piece = there.engine.read_range(range, Cursor::default(), None);
        let mesh = here.engine.mesh.lock();
        let (from, to) = (Cursor::default(), piece.to);
        let chunk = Chunk { range, from, to, graves: false, records: &piece.records };
        let known = here.engine.known(&mesh, NTP64(0));
        let vectors = Vectors { known, theirs: &Vector::default(), giver: peer };
        here.engine.merge_range(&chunk, vectors, NOW, 0).unwrap();
        drop(mesh);
        here.check("EXISTS l", ":0");
    }

    #[test]
    fn a_node_with_peers_follows_nobody() {
        let mut here = Fixture::replicating();
        here.engine.config.write().peer = vec![HostPort { host: "equal".into(), port: 7000 }];
        here.check("SET k v", "+OK");
        here.check("REPLICAOF primary 7000", &format!("-ERR {PEER_OR_PRIMARY}"));
        assert!(!here.engine.is_follower() && here.engine.next_life.lock().is_none());
        assert!(here.engine.config.read().replicaof.is_empty());
    }

    #[test]
    fn a_node_that_is_promoted_before_it_reached_its_primary_keeps_its_data() {
        let mut here = Fixture::new();
        here.check("SET k v", "+OK");
        here.check("REPLICAOF primary 7000", "+OK");
        here.check("REPLICAOF NO ONE", "+OK");
        assert_eq!(greet(&here, 1, "primary", VERSION, Origin::new(NodeId::new(7 << 24), 1)), Ok(()));
        here.check("GET k", "$1 v");
    }
}
