//! Nodes that hold something else though neither lacks anything: noticed, told, and put right by exchanging those ranges.

use meldis::faults::Faults;
use meldis::store::delta::Change;

use crate::check;
use crate::disk::Sync;
use crate::schedule::Plan;
use crate::world::World;

fn pass(world: &mut World, us: u64) {
    let until_us = world.now_us + us;
    while world.now_us < until_us {
        world.step(1000);
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn info(world: &mut World, node: usize, field: &str) -> u64 {
    let text = world.command(node, 0, &words("INFO convergence"));
    let text = String::from_utf8(text).unwrap();
    let value =
        text.split(['\r', '\n', ',']).find_map(|part| part.strip_prefix(field)?.strip_prefix(['=', ':']));
    value.unwrap_or_else(|| panic!("{field} in {text}")).parse().unwrap()
}

#[test]
fn a_range_that_differs_under_equal_vectors_is_told_and_exchanged() {
    let plan = Plan {
        nodes: 2,
        spare: 0,
        backlog_bytes: 1 << 20,
        absence_s: 86_400,
        full_mesh: true,
        delay_us: 200,
        piece_bytes: 65_536,
        cuts: false,
        disk: Sync::Never,
    };
    let mut world = World::new(1, plan, Faults::empty());
    pass(&mut world, 1_000_000);
    for n in 0..50 {
        world.command(0, 0, &words(&format!("SET k{n} v{n}")));
    }
    pass(&mut world, 15_000_000);
    assert!(info(&mut world, 0, "verified_at") > 0 && world.diverged.is_empty());
    let key = b"k7";
    let engine = world.engine(1);
    let hash = engine.hash(key);
    engine.cell(hash.range()).lock().shard.update(0, key, hash, |entry| entry.forget(&Change::Assign(b"")));
    assert!(check::nodes_equal(&world, &[0, 1]).is_err());
    // Writes go on meanwhile.
    for n in 0..150 {
        world.command(n % 2, 0, &words("INCR counter"));
        pass(&mut world, 100_000);
    }
    pass(&mut world, 1_000_000);
    let told = format!("[{}]", hash.range());
    assert!(world.diverged.iter().all(|event| event.contains(&told)) && !world.diverged.is_empty());
    check::nodes_equal(&world, &[0, 1]).unwrap();
    assert_eq!(info(&mut world, 0, "repaired_keys") + info(&mut world, 1, "repaired_keys"), 1);
    assert_eq!(info(&mut world, 0, "differing_ranges"), 0);
    assert_eq!(world.command(0, 0, &words("GET counter")), b"$3\r\n150\r\n");
}
