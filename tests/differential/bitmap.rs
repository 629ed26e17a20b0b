//! Bitmaps.

use crate::compare::Compare::*;
use crate::shape::Group;

pub(crate) const GROUP: Group = Group {
    name: "bitmap",
    pool: "b",
    data: true,
    talks: false,
    shapes: &[
        (6, Exact, "SETBIT key bit (0|1|1|2|abc)"),
        (5, Exact, "GETBIT key bit"),
        (4, Exact, "BITCOUNT key [idx idx [BYTE|BIT|FOO]]"),
        (1, Exact, "BITCOUNT key idx"),
        (4, Exact, "BITPOS key (0|1) [idx [idx [BYTE|BIT]]]"),
        (1, Exact, "BITPOS key (2|abc) idx"),
        (4, Exact, "BITOP (AND|OR|XOR) key key+"),
        (2, Exact, "BITOP NOT key key [key]"),
        (1, Exact, "BITOP FOO key key"),
        (4, Exact, "BITFIELD key (GET bftype bfoffset)+"),
        (4, Exact, "BITFIELD key (SET bftype bfoffset int)+"),
        (5, Exact, "BITFIELD key ([OVERFLOW (WRAP|SAT|FAIL|FOO)] INCRBY bftype bfoffset int)+"),
        (
            2,
            Exact,
            "BITFIELD key (SET (u4|i8|u16|i64) #1 int|GET (u4|i8|u63) #1|OVERFLOW SAT|OVERFLOW FAIL|INCRBY (u2|i3|i16) bfoffset int)+",
        ),
        (1, Exact, "BITFIELD key"),
        (3, Exact, "BITFIELD_RO key (GET bftype bfoffset)+"),
        (1, Exact, "BITFIELD_RO key SET u8 0 1"),
        (2, Exact, "SET key text"),
        (2, Exact, "GET key"),
        (1, Exact, "STRLEN key"),
        (1, Exact, "DEL key"),
    ],
};
