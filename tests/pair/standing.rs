//! What a node tells of its links, and what it refuses by them.

use crate::harness::{Client, Cluster, Options, Partners, Suite, Value, until};

const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";
const STALE: &str = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";

fn number(client: &mut Client, section: &str, field: &str) -> u64 {
    client.info(section, field).unwrap().parse().unwrap()
}

#[test]
fn info_tells_of_the_backlog_and_of_bytes_over_links() {
    let _suite = Suite::new("pair standing: info");
    let pair = Cluster::proxied();
    let [mut a, mut b] = pair.clients();
    a.ok(&["SET", "k", &"x".repeat(10_000)]);
    pair.settle();
    until("the backlog holds the write", || number(&mut a, "replication", "repl_backlog_histlen") > 10_000);
    assert!(number(&mut a, "memory", "mem_replication_backlog") > 10_000);
    assert_eq!(a.info("replication", "repl_backlog_active").unwrap(), "1");
    assert_eq!(a.info("replication", "repl_backlog_first_byte_offset").unwrap(), "1");
    assert!(number(&mut a, "stats", "total_net_repl_output_bytes") > 10_000);
    assert!(number(&mut b, "stats", "total_net_repl_input_bytes") > 10_000);
    for client in [&mut a, &mut b] {
        let mode = client.info("server", "redis_mode").unwrap();
        assert_eq!(
            (mode.as_str(), client.info("cluster", "cluster_enabled").unwrap()),
            ("cluster", "1".into())
        );
        assert!(client.run("HELLO 2").items().contains(&Value::Bulk(mode.into_bytes())));
    }
    // The directive holds at run time too.
    a.ok(&["CONFIG", "SET", "repl-backlog-size", "1000"]);
    a.ok(&["SET", "small", "x"]);
    until("the backlog has shrunk", || number(&mut a, "replication", "repl_backlog_histlen") < 1000);
}

#[test]
fn writes_are_refused_without_enough_partners_and_reads_without_the_link_if_so_configured() {
    let mut suite = Suite::new("pair standing: refusals");
    let options = Options::new(2).partners(Partners::Replicaof).proxied();
    let pair = Cluster::start(options.args(&["--min-replicas-to-write", "1"]));
    let [mut a, mut b] = pair.clients();
    until("the partner counts", || !a.run("SET k 1").is_error());
    assert_eq!(a.info("replication", "min_slaves_good_slaves").unwrap(), "1");
    assert_eq!(a.run("MULTI"), "OK");
    assert_eq!(a.run("SET k 2"), "QUEUED");
    pair.cut();
    let mut other = pair.client(0);
    until("neither counts", || {
        [&mut other, &mut b].map(|client| client.run("SET other 1") == NO_REPLICAS) == [true; 2]
    });
    assert_eq!(a.run("EXEC").text(), format!("EXECABORT Transaction discarded because of: {NO_REPLICAS}"));
    assert_eq!(a.run("GET k"), "1");
    b.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    b.ok(&["SET", "other", "2"]);

    b.ok(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    assert_eq!(b.run("GET other"), STALE);
    assert_eq!(b.run("SELECT 0"), "OK");
    assert_eq!(b.info("replication", "master_global_link_status").unwrap(), "down");
    // None of the partners has to be there.
    b.ok(&["CONFIG", "SET", "replica-quorum", "0"]);
    assert_eq!(b.run("GET other"), "2");
    assert_eq!(b.info("replication", "master_global_link_status").unwrap(), "up");
    b.ok(&["CONFIG", "SET", "replica-quorum", "-1"]);
    pair.heal();
    until("the link is up", || b.run("GET other") == "2" && !a.run("SET k 3").is_error());
    pair.settle();
    suite.add(2);
}
