//! The daemon serves many clients at once, each of which keeps its connection.

use pdudaemon::config::Config;
use pdudaemon::dispatch::{Dispatcher, Stop};
use pdudaemon::listener::Listeners;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// tiny_http leaves some of many new connections waiting until others end; the front sees to them.
#[test]
fn clients_that_come_at_once_and_stay_are_all_answered() {
    let text = r#"{"daemon": {"hostname": "127.0.0.1", "port": "0"},
        "pdus": {"pdu": {"driver": "simulated", "outlets": 100}}}"#;
    let config = Config::parse(text, "test").expect("a config");
    let dispatcher = Arc::new(Dispatcher::start(&config).expect("workers"));
    let listeners = Listeners::start(&config.daemon, &dispatcher).expect("listeners");
    let address = listeners.addresses().first().expect("an address").clone();
    let began = Instant::now();
    let mut clients: Vec<TcpStream> = (1..=100)
        .map(|outlet| {
            let mut client = TcpStream::connect(&address).expect("connected");
            let request = format!(
                "GET /power/control/on?hostname=pdu&port={outlet} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            );
            client.write_all(request.as_bytes()).expect("sent");
            client
        })
        .collect();
    for client in &mut clients {
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time-out");
        let mut start = [0; 12];
        client.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    // Well before the idle time, which would free a thread as well.
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    drop(clients);
    listeners.drain();
    dispatcher.stop(Stop::Now);
    listeners.end(Duration::from_secs(1));
    dispatcher.join();
}
