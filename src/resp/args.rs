//! The arguments of one request: a list of byte strings that lie in one buffer.
//!
//! [`Args`] borrows from the read buffer and is what commands take; [`OwnedArgs`] keeps a copy for requests
//! that run later, such as those queued by MULTI. Both are a buffer and the spans of the arguments in it, so
//! an argument is one span lookup away however it came in.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Bound, Index, RangeBounds};
use std::slice;

/// Where one argument lies in its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Span {
    fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start..self.start + self.len]
    }
}

/// The arguments of one request, the command's name first. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Invariant: every span lies inside `buf`.
    pub(super) fn new(buf: &'a [u8], spans: &'a [Span]) -> Self {
        Self { buf, spans }
    }

    /// How many arguments there are.
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there is no argument at all, as in `*0` or a blank inline line.
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, if there is one.
    #[inline]
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.buf))
    }

    /// The arguments in order.
    pub fn iter(self) -> Iter<'a> {
        Iter { buf: self.buf, spans: self.spans.iter() }
    }

    /// The arguments whose indices lie in `range`; a range past the end is cut, not an error.
    pub fn slice(self, range: impl RangeBounds<usize>) -> Args<'a> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        let end = end.min(self.len());
        Args { buf: self.buf, spans: &self.spans[start.min(end)..end] }
    }
}

/// # Panics
/// If there is no argument at the index, like a slice.
impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.spans[index].of(self.buf)
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// Iterates over [`Args`], from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    buf: &'a [u8],
    spans: slice::Iter<'a, Span>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.spans.next().map(|span| span.of(self.buf))
    }

    fn nth(&mut self, skipped: usize) -> Option<&'a [u8]> {
        self.spans.nth(skipped).map(|span| span.of(self.buf))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.spans.next_back().map(|span| span.of(self.buf))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

/// Arguments with a buffer of their own: two allocations, whatever their number.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedArgs {
    buf: Box<[u8]>,
    spans: Box<[Span]>,
}

impl OwnedArgs {
    /// Copies `args`, and only the bytes that belong to them.
    pub fn from_args(args: Args<'_>) -> Self {
        let mut buf = Vec::with_capacity(args.iter().map(<[u8]>::len).sum());
        let spans = args.iter().map(|arg| append(&mut buf, arg)).collect();
        Self { buf: buf.into(), spans }
    }

    /// The arguments, borrowed.
    pub fn args(&self) -> Args<'_> {
        Args::new(&self.buf, &self.spans)
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for OwnedArgs {
    fn from_iter<I: IntoIterator<Item = T>>(args: I) -> Self {
        let mut buf = Vec::new();
        let spans = args.into_iter().map(|arg| append(&mut buf, arg.as_ref())).collect();
        Self { buf: buf.into(), spans }
    }
}

impl fmt::Debug for OwnedArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.args().fmt(f)
    }
}

fn append(buf: &mut Vec<u8>, arg: &[u8]) -> Span {
    let start = buf.len();
    buf.extend_from_slice(arg);
    Span { start, len: arg.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: Args<'_>, expected: &[&str]) {
        let expected: Vec<&[u8]> = expected.iter().map(|arg| arg.as_bytes()).collect();
        assert_eq!(args.iter().collect::<Vec<_>>(), expected);
        assert_eq!(args.iter().rev().collect::<Vec<_>>(), expected.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!((args.len(), args.iter().len()), (expected.len(), expected.len()));
        assert_eq!(args.is_empty(), expected.is_empty());
        for (i, arg) in expected.iter().enumerate() {
            assert_eq!((args.get(i), &args[i]), (Some(*arg), *arg));
        }
        assert_eq!(args.get(expected.len()), None);
    }

    #[test]
    fn every_access_path_sees_the_same_arguments() {
        let owned: OwnedArgs = ["SET", "", "value"].into_iter().collect();
        check(owned.args(), &["SET", "", "value"]);
        check(OwnedArgs::from_args(owned.args()).args(), &["SET", "", "value"]);
        check(OwnedArgs::from_iter([""; 0]).args(), &[]);
    }

    #[test]
    fn slices_are_cut_to_the_arguments_there_are() {
        let owned: OwnedArgs = ["a", "b", "c", "d"].into_iter().collect();
        let args = owned.args();
        check(args.slice(..), &["a", "b", "c", "d"]);
        check(args.slice(1..), &["b", "c", "d"]);
        check(args.slice(1..).slice(1..=1), &["c"]);
        check(args.slice(4..), &[]);
        check(args.slice(9..), &[]);
        check(args.slice(2..99), &["c", "d"]);
        check(args.slice((Bound::Excluded(usize::MAX), Bound::Included(usize::MAX))), &[]);
    }

    #[test]
    fn a_copied_slice_keeps_only_its_own_bytes() {
        let owned: OwnedArgs = ["EVAL", "a long script", "0"].into_iter().collect();
        let copy = OwnedArgs::from_args(owned.args().slice(2..));
        assert_eq!(&*copy.buf, b"0");
        assert_eq!(format!("{copy:?}"), r#"["0"]"#);
    }
}
