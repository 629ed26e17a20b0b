//! The outbox: batches of this node between the command that wrote them and their place in its sequence.
//!
//! Problem: threads finish out of stamp order, and one queue behind one lock would stop them all at every
//! write. So each thread has a slot of its own and holds its lock from before it takes a stamp until its batch
//! is in the slot. [`Outbox::drain`] reads the clock, then visits every slot: a stamp at or below that reading
//! was taken under a slot's lock before the visit, so its batch is there. What is stamped later stays for the
//! next time. Hence batches leave in stamp order, and the reading is a watermark.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::batch::HEADER_BYTES;
use crate::clock::{Clock, NTP64};

/// Batches of one thread, complete ones only except while its lock is held.
#[derive(Debug, Default)]
pub struct Slot {
    /// The batches, as [`super::batch`] draws them.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct PaddedSlot {
    slot: Mutex<Slot>,
    /// Something was put into it since its thread last asked, or read that is to be kept.
    filled: AtomicBool,
}

/// One slot per thread.
#[derive(Debug)]
pub struct Outbox {
    slots: Box<[PaddedSlot]>,
    /// Something was put into a slot since the last drain.
    filled: AtomicBool,
}

/// Batches in stamp order.
#[derive(Debug, Default)]
pub struct Drained {
    /// The batches, one behind the other.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u64,
}

impl Outbox {
    /// An outbox for so many threads.
    pub fn new(threads: usize) -> Self {
        Outbox {
            slots: (0..threads.max(1)).map(|_| PaddedSlot::default()).collect(),
            filled: AtomicBool::new(false),
        }
    }

    /// The slot of a thread. Held until the batch is written.
    pub fn slot(&self, thread: usize) -> MutexGuard<'_, Slot> {
        self.slots[thread % self.slots.len()].slot.lock()
    }

    /// Locks every slot, unless one is in use.
    pub fn try_lock_all(&self) -> Option<Vec<MutexGuard<'_, Slot>>> {
        self.slots.iter().map(|slot| slot.slot.try_lock()).collect()
    }

    /// Notes that a batch was put into the slot of a thread.
    pub fn fill(&self, thread: usize) {
        self.hold_reply(thread);
        self.begin();
    }

    /// Notes that a batch is about to be put into a slot, whose lock is held: before the range is free again, so that who
    /// finds a write there finds the outbox filled, or the write drained.
    pub fn begin(&self) {
        if !self.filled.load(Ordering::Relaxed) {
            self.filled.store(true, Ordering::SeqCst);
        }
    }

    /// Has a thread's next reply wait like that to a write, until all that was drained is kept: it tells of it.
    pub fn hold_reply(&self, thread: usize) {
        self.slots[thread % self.slots.len()].filled.store(true, Ordering::Relaxed);
    }

    /// Whether a batch was put into the slot of a thread since the thread last asked; it may be drained by now.
    pub fn take_filled(&self, thread: usize) -> bool {
        let filled = &self.slots[thread % self.slots.len()].filled;
        filled.load(Ordering::Relaxed) && filled.swap(false, Ordering::Relaxed)
    }

    /// Whether a batch was put into a slot since the last drain.
    pub fn is_filled(&self) -> bool {
        self.filled.load(Ordering::SeqCst)
    }

    /// Takes the batches up to the present, and returns the watermark they reach: no later batch carries a
    /// stamp at or below it. Waits for commands that are writing right now.
    pub fn drain(&self, clock: &Clock, into: &mut Drained) -> NTP64 {
        self.filled.store(false, Ordering::SeqCst);
        let watermark = clock.last();
        let mut runs: Vec<Vec<u8>> = Vec::new();
        for slot in &self.slots {
            let mut slot = slot.slot.lock();
            if slot.bytes.is_empty() {
                continue;
            }
            let mut run = std::mem::take(&mut slot.bytes);
            let due: usize =
                lengths(&run).take_while(|(time, _)| *time <= watermark).map(|(_, length)| length).sum();
            slot.bytes.extend_from_slice(&run[due..]);
            run.truncate(due);
            if !run.is_empty() {
                runs.push(run);
            }
        }
        into.merge(runs);
        watermark
    }
}

impl Drained {
    /// Puts the batches of all threads in stamp order.
    pub fn merge(&mut self, mut runs: Vec<Vec<u8>>) {
        if runs.len() == 1 && self.bytes.is_empty() {
            self.bytes = runs.pop().expect("there is one");
            self.count = lengths(&self.bytes).count() as u64;
            return;
        }
        let mut cursors = vec![0; runs.len()];
        let head = |run: &[u8], at: usize| lengths(&run[at..]).next();
        while let Some((index, length)) = (0..runs.len())
            .filter_map(|index| {
                head(&runs[index], cursors[index]).map(|(time, length)| (time, index, length))
            })
            .min()
            .map(|(_, index, length)| (index, length))
        {
            self.bytes.extend_from_slice(&runs[index][cursors[index]..cursors[index] + length]);
            self.count += 1;
            cursors[index] += length;
        }
    }
}

/// Time and whole length of each batch.
fn lengths(mut bytes: &[u8]) -> impl Iterator<Item = (NTP64, usize)> + '_ {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER_BYTES)?;
        let length = HEADER_BYTES + u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        let time = NTP64(u64::from_le_bytes(header[4..].try_into().expect("eight bytes")));
        bytes = &bytes[length..];
        Some((time, length))
    })
}
