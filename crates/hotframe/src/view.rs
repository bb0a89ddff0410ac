//! `hotframe view`: stored profiles as pages on a loopback port.
//!
//! In: files that [`input`] can read. Out: the page of each under `http://127.0.0.1:PORT/`; of
//! several, a list to choose from. Profiles are never added up: a sum of two recordings is none.
//!
//! # How it works
//! Every file is read and rendered before the port opens, so that what is wrong with one is said
//! at once; one profile is in memory at a time, then only the pages. The server answers GET and
//! HEAD of fixed paths from these pages and touches no file again. It is our own, on std: what is
//! needed of HTTP is a request line and one header, less than any server crate brings along.
//!
//! # What it guards against
//! It listens on loopback only. A web page elsewhere that had its name rebound to 127.0.0.1
//! still sends its own name: requests whose `Host` is not loopback are refused (port numbers are
//! free, so that `ssh -L` works). Each page has the Content-Security-Policy that it was built
//! with, as a header too, may not be framed and may not be read by other origins. Requests have
//! bounds on bytes, time and number; a client that goes beyond is dropped.
//!
//! # Not handled
//! Other users of the same machine can connect to a loopback port. HTTP beyond GET, keep-alive.

use crate::{Exit, cli, input, signals};
use anyhow::Context as _;
use hotframe_core::profile::Profile;
use hotframe_formats::{Format, html};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most bytes of a request's head; browsers send about 1,000.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// How long a client may take to send its request, or to take a piece of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests answered at one time; a browser opens six.
const MAX_CONNECTIONS: usize = 32;

/// Runs the subcommand: until Ctrl-C.
///
/// # Errors
/// A file that cannot be read, a port that cannot be opened.
pub fn run(options: &cli::View) -> anyhow::Result<ExitCode> {
    let mut entries = Vec::new();
    for path in &options.files {
        entries.push(Entry::read(path, &options.read)?);
    }
    show(entries, &options.serve, options.quiet)
}

/// Serves pages until Ctrl-C; the address goes to stdout, words to stderr unless `quiet`.
///
/// # Errors
/// A port that cannot be opened.
pub fn show(entries: Vec<Entry>, options: &cli::Serve, quiet: bool) -> anyhow::Result<ExitCode> {
    let site = Arc::new(Site::new(entries));
    let listener = listen(options.port)?;
    // Blocked before a thread starts, so that only the wait below sees them.
    let ends = signals::block(&[])?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::Builder::new()
        .name("http".into())
        .spawn(move || serve(&listener, &site))
        .context("starting the server")?;
    writeln!(io::stdout(), "{url}").context("writing to stdout")?;
    let opened = !options.no_open && open_browser(&url);
    if !quiet {
        crate::messages::line(format_args!(
            "{}; Ctrl-C ends",
            if opened { "opened in the browser" } else { "open this address in a browser" }
        ));
    }
    ends.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the loopback port, or any free one.
fn listen(port: Option<u16>) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    TcpListener::bind(address).map_err(|cause| {
        let why = match cause.kind() {
            io::ErrorKind::AddrInUse => {
                "is in use: give another --port, or none and a free one is chosen".into()
            }
            io::ErrorKind::PermissionDenied => "needs privileges: give one above 1023".into(),
            _ => cause.to_string(),
        };
        Exit { code: 1, message: format!("port {} {why}", address.port()) }.into()
    })
}

/// Starts the browser where there is a desktop; whether it was.
fn open_browser(url: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    // A browser that runs as root, on somebody else's desktop, is no favour.
    if !desktop || crate::output::invoking_user().is_some() {
        return false;
    }
    let child = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(mut child) => {
            // Where there is no browser it says so at once; one that starts may go on.
            for _ in 0..10 {
                if let Ok(Some(status)) = child.try_wait() {
                    return status.success();
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            // Reaped, whenever it ends.
            let _ = std::thread::Builder::new().spawn(move || child.wait());
            true
        }
        Err(_) => false,
    }
}

/// A profile as it is served.
pub struct Entry {
    name: String,
    facts: Vec<String>,
    page: Vec<u8>,
}

impl Entry {
    /// A page under a name, with what tells it from others.
    pub fn new(name: String, facts: Vec<String>, page: Vec<u8>) -> Entry {
        Entry { name, facts, page }
    }

    fn read(path: &Path, read: &cli::Read) -> anyhow::Result<Entry> {
        let bytes = input::bytes(path)?;
        let mut page = Vec::new();
        // What `diff -o` wrote is two recordings, and shown as these.
        if html::is_page(&bytes)
            && let Some(comparison) =
                html::read_comparison(&bytes).with_context(|| input::shown(path))?
        {
            html::write_comparison(&comparison, &mut page)?;
            let facts = vec![format!("{} → {}", comparison.before.name, comparison.after.name)];
            return Ok(Entry::new(input::shown(path), facts, page));
        }
        let profile = input::parse(path, &bytes, read)?;
        drop(bytes);
        Format::Html.write(&profile, &mut page).with_context(|| input::shown(path))?;
        Ok(Entry::new(input::shown(path), facts(&profile), page))
    }
}

/// What tells a recording from others: samples, duration, time, host, command.
fn facts(profile: &Profile) -> Vec<String> {
    let meta = &profile.meta;
    let samples: u64 = profile.samples.weight.iter().map(|&weight| u64::from(weight)).sum();
    let seconds = meta.duration_ns as f64 / 1e9;
    [
        match crate::summary::unit(meta).as_str() {
            "samples" if samples == 1 => "1 sample".to_owned(),
            unit => format!("{samples} {unit}"),
        },
        if meta.duration_ns > 0 { format!("{seconds:.1} s") } else { String::new() },
        utc(meta.start_unix_ns),
        meta.host.clone(),
        meta.command.clone(),
    ]
    .into_iter()
    .filter(|fact| !fact.is_empty())
    .collect()
}

/// A time as `2026-01-31 14:05 UTC`; "" for none (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", civil_from_days).
fn utc(unix_ns: u64) -> String {
    if unix_ns == 0 {
        return String::new();
    }
    let seconds = unix_ns / 1_000_000_000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Everything that is served.
struct Site {
    entries: Vec<Entry>,
    list: String,
    /// Policy of the pages, as their own element has it.
    policy: String,
}

/// The list's style: a file of its own, so that the policy needs no hash.
const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.2rem; font-weight: 600 }
ul { list-style: none; padding: 0 }
a { display: block; padding: .7rem 1rem; border-radius: .5rem; color: inherit; text-decoration: none }
a:hover, a:focus { background: #8882 }
b { font-weight: 600; overflow-wrap: anywhere }
span { display: block; opacity: .7; overflow-wrap: anywhere }
";
const HTML: &str = "text/html; charset=utf-8";
const LIST_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'";

impl Site {
    fn new(entries: Vec<Entry>) -> Site {
        let mut list = String::from(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"><title>hotframe</title>\
             <link rel=\"stylesheet\" href=\"/style.css\"></head><body>",
        );
        let _ = write!(list, "<h1>{} profiles</h1><ul>", entries.len());
        for (i, entry) in entries.iter().enumerate() {
            let _ = write!(
                list,
                "<li><a href=\"/{i}\"><b><bdi>{}</bdi></b><span><bdi>{}</bdi></span></a></li>",
                escaped(&entry.name),
                escaped(&entry.facts.join(" · "))
            );
        }
        list.push_str("</ul></body></html>\n");
        let policy = html::policy().unwrap_or("default-src 'none'").to_owned();
        Site { entries, list, policy }
    }

    fn page<'a>(&'a self, entry: &'a Entry) -> Content<'a> {
        Content { kind: HTML, policy: &self.policy, bytes: &entry.page }
    }

    /// What is at a path.
    fn get(&self, path: &str) -> Option<Content<'_>> {
        match path {
            "/" => match self.entries.as_slice() {
                [entry] => Some(self.page(entry)),
                _ => Some(Content { kind: HTML, policy: LIST_POLICY, bytes: self.list.as_bytes() }),
            },
            "/style.css" => Some(Content {
                kind: "text/css; charset=utf-8",
                policy: LIST_POLICY,
                bytes: STYLE.as_bytes(),
            }),
            _ => {
                let number: usize = path.strip_prefix('/')?.parse().ok()?;
                self.entries.get(number).map(|entry| self.page(entry))
            }
        }
    }
}

/// An answer's content.
struct Content<'a> {
    kind: &'static str,
    policy: &'a str,
    bytes: &'a [u8],
}

/// Text as HTML shows it, whatever it holds.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Answers connections, a thread each.
fn serve(listener: &TcpListener, site: &Arc<Site>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, or a client that left: not for a busy loop.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let place = Place::take(&open);
        let site = site.clone();
        if let Some(place) = place {
            let _ = std::thread::Builder::new().name("http".into()).spawn(move || {
                let _place = place;
                // A client that went away is nobody to tell.
                let _ = answer(stream, &site);
            });
        }
    }
}

/// One of the [`MAX_CONNECTIONS`] places, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(head) = read_head(&mut stream)? else { return Ok(()) };
    match Request::parse(&head) {
        Err(refusal) => respond(&mut stream, refusal, None, true),
        Ok(request) => match site.get(request.path) {
            Some(content) => respond(&mut stream, "200 OK", Some(&content), request.body),
            None => respond(&mut stream, "404 Not Found", None, request.body),
        },
    }
}

/// A request's head, to its empty line; `None` if it never comes.
fn read_head(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let n = stream.read(&mut piece)?;
        if n == 0 || head.len() + n > MAX_HEAD_BYTES || Instant::now() > deadline {
            return Ok(None);
        }
        head.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
    Ok(Some(head))
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    path: &'a str,
    /// Whether the content is wanted (GET) or only its head (HEAD).
    body: bool,
}

impl Request<'_> {
    /// A request, or the status of its refusal.
    fn parse(head: &[u8]) -> Result<Request<'_>, &'static str> {
        const BAD: &str = "400 Bad Request";
        let head = std::str::from_utf8(head).map_err(|_| BAD)?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BAD);
        };
        let mut hosts = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
            .map(|(_, host)| host.trim());
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if is_loopback(host) => {}
            (Some(_), None) => return Err("421 Misdirected Request"),
            _ => return Err(BAD),
        }
        let body = match method {
            "GET" => true,
            "HEAD" => false,
            _ => return Err("405 Method Not Allowed"),
        };
        let path = target.split('?').next().unwrap_or_default();
        Ok(Request { path, body })
    }
}

/// Whether a `Host` header names this machine by a loopback name, on whatever port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost")
}

fn respond(
    stream: &mut impl Write,
    status: &str,
    content: Option<&Content>,
    body: bool,
) -> io::Result<()> {
    let said = format!("{status}\n");
    let said = Content {
        kind: "text/plain; charset=utf-8",
        policy: "default-src 'none'",
        bytes: said.as_bytes(),
    };
    let content = content.unwrap_or(&said);
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {}; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        content.kind,
        content.bytes.len(),
        content.policy,
    )?;
    if body {
        stream.write_all(content.bytes)?;
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(names: &[&str]) -> Arc<Site> {
        let entry = |name: &&str| Entry {
            name: (*name).into(),
            facts: vec!["<1 sample>".into()],
            page: format!("page of {name}").into_bytes(),
        };
        Arc::new(Site::new(names.iter().map(entry).collect()))
    }

    /// What the server says to these bytes.
    fn said(site: &Arc<Site>, request: &[u8]) -> String {
        let listener = listen(None).expect("a port");
        let address = listener.local_addr().expect("an address");
        let site = site.clone();
        std::thread::spawn(move || serve(&listener, &site));
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(request).expect("sent");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn get(path: &str, host: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n").into_bytes()
    }

    /// One file is the page itself; several are a list and never one sum.
    #[test]
    fn pages() {
        let one = site(&["a.html"]);
        assert!(said(&one, &get("/", "localhost:1")).ends_with("\r\n\r\npage of a.html"));
        let two = site(&["a.html", "b<script>.html"]);
        let list = said(&two, &get("/", "127.0.0.1"));
        assert!(list.starts_with("HTTP/1.1 200 OK\r\n") && list.contains("href=\"/1\""), "{list}");
        assert!(list.contains("b&lt;script&gt;.html") && list.contains("&lt;1 sample&gt;"));
        assert!(said(&two, &get("/1?x", "[::1]:80")).ends_with("page of b<script>.html"));
        assert!(said(&two, &get("/2", "localhost")).starts_with("HTTP/1.1 404 "));
        assert!(said(&two, &get("/../etc/passwd", "localhost")).starts_with("HTTP/1.1 404 "));
        let head = said(&two, b"HEAD /0 HTTP/1.1\r\nhost: LOCALHOST:8080\r\n\r\n");
        assert!(head.contains("Content-Length: 14\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    /// Only who asks for a loopback name is answered (DNS rebinding).
    #[test]
    fn hosts() {
        let site = site(&["a.html"]);
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "10.0.0.1:80",
            "",
            "localhost:80@evil",
            "[::1",
        ] {
            let said = said(&site, &get("/", host));
            assert!(said.starts_with("HTTP/1.1 421 "), "{host}: {said}");
            assert!(!said.contains("page of"));
        }
        for request in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
            b"\xff\xfe / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            assert!(said(&site, request).starts_with("HTTP/1.1 400 "), "{request:?}");
        }
        let post = said(&site, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("Allow: GET, HEAD"));
    }

    /// A head without an end is dropped, not kept.
    #[test]
    fn endless() {
        let mut request = b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        request.resize(MAX_HEAD_BYTES + 5000, b'x');
        assert_eq!(said(&site(&["a"]), &request), "");
        assert_eq!(said(&site(&["a"]), b"GET / HT"), "");
    }

    /// The page's own policy is sent with it, and allows no network.
    #[test]
    fn policy() {
        let said = said(&site(&["a"]), &get("/", "localhost"));
        let line = said.lines().find(|line| line.starts_with("Content-Security-Policy: "));
        let line = line.expect("a policy");
        assert!(line.contains("default-src 'none'; script-src 'sha256-"), "{line}");
        assert!(line.ends_with("frame-ancestors 'none'"), "{line}");
    }

    /// A port that is taken is said with what to do.
    #[test]
    fn port_in_use() {
        let taken = listen(None).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let said = listen(Some(port)).expect_err("taken").to_string();
        assert_eq!(
            said,
            format!("port {port} is in use: give another --port, or none and a free one is chosen")
        );
    }

    /// Dates against `date -u`.
    #[test]
    fn dates() {
        assert_eq!(utc(1_709_210_096_000_000_000), "2024-02-29 12:34 UTC");
        assert_eq!(utc(1_798_761_599_000_000_000), "2026-12-31 23:59 UTC");
        assert_eq!(utc(0), "");
    }
}
