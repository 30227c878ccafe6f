//! Two hundred clients that ask for the list of PDUs, beside clients that switch.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many ask, all in the same moment.
pub const POLLERS: usize = 200;
/// What a page or a dashboard asks for: the last known states, read again when they are older.
const PATH: &str = "/api/v1/pdus?refresh=5";

/// The pollers' process; killed when dropped.
pub struct Pollers(Child);

impl Pollers {
    /// Starts them; each has had its first list when this returns. With a pause of zero they ask
    /// again at once.
    pub fn start(server: SocketAddr, pause: Duration) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([
            "--poll",
            &server.to_string(),
            &pause.as_millis().to_string(),
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        assert!(
            said.is_ok() && line == "ready\n",
            "the pollers do not start"
        );
        Self(child)
    }
}

impl Drop for Pollers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Polls for ever, for a child process.
pub fn poll(server: SocketAddr, pause: Duration) -> ! {
    let mut clients: Vec<TcpStream> = (0..POLLERS)
        .map(|_| TcpStream::connect(server).expect("connected"))
        .collect();
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut buffer = vec![0; 256 * 1024];
    let mut is_first = true;
    loop {
        let began = Instant::now();
        for client in &mut clients {
            client.write_all(request.as_bytes()).expect("sent");
        }
        for client in &mut clients {
            read_answer(client, &mut buffer);
        }
        if std::mem::take(&mut is_first) {
            println!("ready");
        }
        std::thread::sleep(pause.saturating_sub(began.elapsed()));
    }
}

fn read_answer(client: &mut TcpStream, buffer: &mut Vec<u8>) {
    let (mut have, mut whole) = (0, None);
    while whole.is_none_or(|whole| have < whole) {
        if have == buffer.len() {
            buffer.resize(2 * have, 0);
        }
        let more = client.read(&mut buffer[have..]).expect("an answer");
        assert!(more > 0, "the server closed a connection");
        have += more;
        whole = whole.or_else(|| length(&buffer[..have]));
    }
}

/// Of the whole answer, once its head is there; it must be a 200.
fn length(input: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(input).expect("an HTTP answer") else {
        return None;
    };
    assert_eq!(answer.code, Some(200));
    let body = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Content-Length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        });
    Some(head + body.expect("a Content-Length"))
}
