//! After healing: all nodes equal, and equal to the one server that executed all effects in stamp order.

use std::collections::BTreeMap;

use meldis::store::delta::Change;
use meldis::store::entry::Expiry;
use meldis::store::shard::RANGES;

use crate::model::{Seen, SeenKey};
use crate::world::World;

type Everything = BTreeMap<(u32, Vec<u8>), SeenKey>;

/// All existing keys of a node.
pub fn seen(world: &World, node: usize) -> Everything {
    let (engine, now_ms) = (world.engine(node), world.now(node).unix_ms);
    let mut all = BTreeMap::new();
    for range in 0..RANGES {
        let cell = engine.cell(range).lock();
        for space in 0..cell.shard.spaces() {
            let entries = cell.shard.entries(space);
            all.extend(
                entries.filter_map(|entry| Some(((space, entry.key().to_vec()), Seen::of(entry, now_ms)?))),
            );
        }
    }
    all
}

fn show(key: &(u32, Vec<u8>), value: Option<&SeenKey>) -> String {
    let mut text = format!("{}:{} = ", key.0, String::from_utf8_lossy(&key.1));
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        None => text += "nothing",
        Some((seen, expiry)) => {
            text += &match seen {
                Seen::String(value) => format!("string {}", lossy(value)),
                Seen::List(items) => {
                    format!("list {:?}", items.iter().map(|item| lossy(item)).collect::<Vec<_>>())
                }
                Seen::Set(members) => {
                    format!("set {:?}", members.iter().map(|m| lossy(m)).collect::<Vec<_>>())
                }
                Seen::Zset(scores) => {
                    format!("zset {:?}", scores.iter().map(|(m, s)| (lossy(m), s)).collect::<Vec<_>>())
                }
                Seen::Hash(fields) => {
                    format!("hash {:?}", fields.iter().map(|(f, v)| (lossy(f), lossy(v))).collect::<Vec<_>>())
                }
            };
            text += &format!(" expiry {expiry:?}");
        }
    }
    text
}

fn differences(a: &Everything, b: &Everything) -> Vec<(u32, Vec<u8>)> {
    let keys = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
    keys.into_iter().filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}

fn registers(world: &World, node: usize, (space, key): &(u32, Vec<u8>)) -> String {
    let engine = world.engine(node);
    let hash = engine.hash(key);
    let cell = engine.cell(hash.range()).lock();
    match cell.shard.get(*space, key, hash) {
        None => format!("  n{node}: no entry\n"),
        Some(entry) => {
            let mut text = format!("  n{node}: buried {}", entry.is_buried());
            entry.registers(|stamp, change| text += &format!("\n      {stamp} {change:?}"));
            text + "\n"
        }
    }
}

/// What every node holds in some ranges.
pub fn ranges(world: &World, ranges: &[u16]) -> String {
    let mut text = String::new();
    for node in world.up() {
        for range in ranges {
            let cell = world.engine(node).cell(usize::from(*range)).lock();
            let keys: Vec<_> = (0..cell.shard.spaces())
                .flat_map(|space| cell.shard.entries(space).map(move |entry| (space, entry.key().to_vec())))
                .collect();
            drop(cell);
            for key in keys {
                text += &format!("{}:{}\n", key.0, String::from_utf8_lossy(&key.1));
                text += &registers(world, node, &key);
            }
        }
    }
    text
}

/// All keys of a node with something to be collected before an expiry that is yet to come.
pub fn collectable(world: &World, node: usize) -> Vec<(u32, Vec<u8>)> {
    let engine = world.engine(node);
    let now_ms = world.now(node).unix_ms;
    let awaits = |expiry: Expiry| expiry.at_ms.is_some_and(|at_ms| at_ms > now_ms);
    let mut places = Vec::new();
    for range in 0..RANGES {
        let cell = engine.cell(range).lock();
        if cell.shard.graves() == 0 {
            continue;
        }
        for space in 0..cell.shard.spaces() {
            let left = cell.shard.entries(space).filter(|entry| entry.has_collectable());
            let due = left.filter(|entry| !entry.expiry().is_some_and(awaits));
            places.extend(due.map(|entry| (space, entry.key().to_vec())));
        }
    }
    places
}

/// The same for reports.
pub fn show_collectable(world: &World, node: usize) -> String {
    let shown = |place: &(u32, Vec<u8>)| {
        format!("  {}\n", String::from_utf8_lossy(&place.1)) + &registers(world, node, place)
    };
    let left: String = collectable(world, node).iter().map(shown).collect();
    format!("n{node}, stable {}:\n{left}", world.engine(node).stable().0)
}

/// What differs between the nodes of a cluster, if anything does.
pub fn nodes_equal(world: &World, up: &[usize]) -> Result<(), String> {
    for node in up {
        world.engine(*node).check_invariants();
    }
    let first = seen(world, up[0]);
    for node in &up[1..] {
        let other = seen(world, *node);
        let differ = differences(&first, &other);
        if let Some(key) = differ.first() {
            let mut text = format!("n{} and n{node} differ in {} keys:\n", up[0], differ.len());
            text += &format!(
                "  n{}: {}\n  n{node}: {}\n",
                up[0],
                show(key, first.get(key)),
                show(key, other.get(key))
            );
            up.iter().for_each(|node| text += &registers(world, *node, key));
            return Err(text);
        }
        let digests = [world.engine(up[0]).range_digests(), world.engine(*node).range_digests()];
        if digests[0] != digests[1] {
            let ranges: Vec<u16> = digests[0]
                .iter()
                .filter(|at| !digests[1].contains(at))
                .chain(digests[1].iter().filter(|at| !digests[0].contains(at)))
                .map(|(range, _)| *range)
                .collect();
            let mut text = format!("n{} and n{node} differ in the digests of ranges {ranges:?}\n", up[0]);
            for node in up {
                let cell = world.engine(*node).cell(ranges[0].into()).lock();
                let keys: Vec<_> = (0..cell.shard.spaces())
                    .flat_map(|space| {
                        cell.shard.entries(space).map(move |entry| (space, entry.key().to_vec()))
                    })
                    .collect();
                drop(cell);
                for key in keys {
                    text += &format!("  {}\n", show(&key, seen(world, *node).get(&key)));
                    text += &registers(world, *node, &key);
                }
            }
            return Err(text);
        }
        for db in 0..2 {
            if world.engine(up[0]).space_of(db) != world.engine(*node).space_of(db) {
                return Err(format!("n{} and n{node} differ in what database {db} shows", up[0]));
            }
        }
    }
    Ok(())
}

/// What differs from the model in a cluster whose nodes are equal, if anything does.
pub fn equals_model(world: &World, cluster: &[usize]) -> Result<(), String> {
    let node = cluster[0];
    if world.history.restated {
        return Ok(());
    }
    let alive = cluster.iter().map(|node| world.engine(*node).clock.origin()).collect();
    let may_be_back =
        |place: &(u32, Vec<u8>), stamp, change: &Change<'_>| world.watch.may_be_back(place, stamp, change);
    let replay = world.history.replay(world.engine(node).mesh.lock().vector(), &alive, may_be_back);
    if replay.all_doubtful {
        return Ok(());
    }
    let model = replay.model.seen(world.now(node).unix_ms);
    let everything = seen(world, node);
    let differ = differences(&everything, &model);
    match differ.iter().find(|key| !replay.doubtful.contains(*key)) {
        None => Ok(()),
        Some(key) => {
            let mut text = format!("the nodes differ from the model, {} keys:\n", differ.len());
            text += &format!(
                "  nodes: {}\n  model: {}\n",
                show(key, everything.get(key)),
                show(key, model.get(key))
            );
            text += &registers(world, node, key);
            text += &world.history.of(key);
            Err(text)
        }
    }
}
