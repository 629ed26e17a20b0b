//! The allowlist over sockets: who is let in, who is closed when it changes, and that partners share it.
//!
//! Every address of 127.0.0.0/8 is this machine, so clients choose the one they come from.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod harness;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use harness::{Client, Server, Value, until};
use socket2::{Domain, Socket, Type};

/// A client of the server that comes from 127.0.0.`last`.
fn client_from(last: u8, server: &Server) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())).into()).unwrap();
    Client::over(TcpStream::from(socket)).unwrap()
}

/// Whether clients from 127.0.0.`last` are served. Those who are not must be closed without a word, unasked.
fn is_let_in(last: u8, server: &Server) -> bool {
    let mut client = client_from(last, server);
    match client.try_cmd(&["PING"]) {
        Ok(reply) => {
            assert_eq!(reply, Value::Simple("PONG".into()));
            true
        }
        Err(_) => {
            assert!(client_from(last, server).is_closed(), "closed only after it spoke");
            false
        }
    }
}

#[test]
fn a_new_list_closes_those_who_are_not_on_it_whatever_they_do() {
    let server = Server::start(&["--server-threads", "2"]);
    let mut operator = server.client();
    let mut others: Vec<Client> = (0..8).map(|_| client_from(2, &server)).collect();
    for (at, other) in others.iter_mut().enumerate() {
        match at % 3 {
            0 => assert!(!other.run("SUBSCRIBE news").is_error()),
            1 => assert_eq!(other.run("PING"), Value::Simple("PONG".into())),
            // Connected, and has not said a word.
            _ => {}
        }
    }
    assert_eq!(operator.run("MELD ALLOWLIST ADD 127.0.0.1 127.0.0.3"), Value::Int(2));
    for other in &mut others {
        assert!(other.is_closed());
    }
    assert!(!is_let_in(2, &server));
    assert!(is_let_in(3, &server));
    assert_eq!(operator.run("MELD ALLOWLIST ADD 127.0.0.0/29"), Value::Int(1));
    assert!(is_let_in(2, &server));
    assert!(!is_let_in(9, &server));
    assert_eq!(operator.run("MELD ALLOWLIST SET"), Value::Simple("OK".into()));
    assert!(is_let_in(9, &server));
}

#[test]
fn a_list_of_the_configuration_holds_from_the_first_connection() {
    let server = Server::start(&["--allowlist", "127.0.0.0/30", "::ffff:127.0.0.9"]);
    assert!(is_let_in(2, &server));
    assert!(is_let_in(9, &server), "a v4-mapped block is the v4 address");
    assert!(!is_let_in(4, &server));
}

#[test]
fn config_set_is_the_same_list() {
    let server = Server::start(&[]);
    let mut operator = server.client();
    let mut other = client_from(2, &server);
    let refused = operator.cmd(&["CONFIG", "SET", "allowlist", "127.0.0.2 10.0.0.0/8"]);
    assert!(refused.is_error(), "{refused}");
    operator.ok(&["CONFIG", "SET", "allowlist", "127.0.0.1 10.1.0.0/8"]);
    assert!(other.is_closed());
    let listed = Value::Array(vec![Value::Bulk(b"127.0.0.1".to_vec()), Value::Bulk(b"10.0.0.0/8".to_vec())]);
    assert_eq!(operator.run("MELD ALLOWLIST LIST"), listed);
    operator.ok(&["MELD", "ALLOWLIST", "REMOVE", "10.0.0.0/8"]);
    let shown = operator.run("CONFIG GET allowlist");
    assert_eq!(shown.items()[1], Value::Bulk(b"127.0.0.1".to_vec()));
}

#[test]
fn addresses_of_both_families_are_told_apart() {
    let server = Server::start(&["--bind", "127.0.0.1", "::1"]);
    let mut operator = server.client();
    let over_v6 = || Client::over(TcpStream::connect(("::1", server.port())).unwrap()).unwrap();
    let mut stranger = over_v6();
    assert!(!stranger.run("PING").is_error());
    operator.ok(&["MELD", "ALLOWLIST", "SET", "127.0.0.0/8"]);
    assert!(stranger.is_closed());
    assert!(over_v6().is_closed());
    operator.ok(&["MELD", "ALLOWLIST", "ADD", "::1"]);
    assert!(!over_v6().run("PING").is_error());
    let mut dual = over_v6();
    assert!(!dual.run("MELD ALLOWLIST REMOVE ::ffff:127.0.0.0/104").is_error());
    assert!(operator.is_closed());
    assert!(!dual.run("PING").is_error());
}

#[test]
fn a_unix_socket_has_no_address_to_refuse() {
    let server = Server::start(&["--unixsocket", "meldis.sock"]);
    let mut operator = server.client();
    operator.ok(&["MELD", "ALLOWLIST", "SET", "10.0.0.0/8", "FORCE"]);
    assert!(operator.is_closed());
    let path = server.data_dir().join("meldis.sock");
    let mut socket = std::os::unix::net::UnixStream::connect(path).unwrap();
    socket.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn an_operator_is_not_shut_out_by_mistake() {
    let server = Server::start(&[]);
    let mut operator = server.client();
    let refused = operator.run("MELD ALLOWLIST SET 10.0.0.0/8");
    assert!(refused.is_error() && refused.text().contains("127.0.0.1"), "{refused}");
    assert!(is_let_in(2, &server), "nothing has changed");
    assert_eq!(operator.run("MELD ALLOWLIST SET 127.0.0.2 FORCE"), Value::Simple("OK".into()));
    assert!(operator.is_closed());
    assert!(!is_let_in(1, &server));
    assert!(is_let_in(2, &server));
}

#[test]
fn a_list_holds_on_every_node_and_the_nodes_stay_linked() {
    let a = Server::start(&["--active-replica", "yes"]);
    let b = Server::start(&["--peer", &format!("127.0.0.1:{}", a.port())]);
    let mut on_a = client_from(5, &a);
    let mut on_b = client_from(5, &b);
    let mut outsider = client_from(6, &b);
    on_a.ok(&["SET", "linked", "yes"]);
    until("the nodes are linked", || on_b.run("GET linked") == Value::Bulk(b"yes".to_vec()));
    assert!(!outsider.run("PING").is_error());
    assert_eq!(on_a.run("MELD ALLOWLIST ADD 127.0.0.5"), Value::Int(1));
    assert!(outsider.is_closed());
    assert!(!is_let_in(6, &b));
    // The nodes' own address is off the list: the link stays, and clients from there do not get in.
    assert!(!is_let_in(7, &a));
    on_b.ok(&["SET", "after", "yes"]);
    until("the link works", || on_a.run("GET after") == Value::Bulk(b"yes".to_vec()));
    let listed = on_b.run("MELD ALLOWLIST LIST");
    assert_eq!(listed, on_a.run("MELD ALLOWLIST LIST"));
}
