//! Networks, patterns, tokens, proxies, tricked browsers, and how often one may guess.

use super::*;
use std::time::{Duration, Instant};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn network(text: &str) -> Network {
    text.parse().expect("a network")
}

#[test]
fn networks_hold_addresses_in_either_form() {
    for (net, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::a01:203"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
        ("::1/128", "::1", "127.0.0.1"),
        ("::/0", "10.0.0.1", "10.0.0.1"),
    ] {
        assert!(network(net).contains(ip(inside)), "{inside} in {net}");
        if net != "::/0" {
            assert!(!network(net).contains(ip(outside)), "{outside} in {net}");
        }
    }
    for bad in [
        "",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "h/8",
        "::1/129",
    ] {
        assert!(bad.parse::<Network>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn globs_match_whole_names() {
    for (pattern, yes, no) in [
        ("rack*", "rack1-pdu", "a-rack"),
        ("*-pdu", "rack1-pdu", "rack1-pdus"),
        ("a*b*c", "a-b-b-c", "a-c-b"),
        ("pdu?", "pdu1", "pdu"),
        ("", "", "x"),
        ("ü*", "üx", "u"),
    ] {
        assert!(Glob::new(pattern).matches(yes), "{pattern} {yes}");
        assert!(!Glob::new(pattern).matches(no), "{pattern} {no}");
    }
    assert!(Glob::new("*").matches(""));
    // Many stars over a long text do not take for ever.
    assert!(!Glob::new("*a".repeat(200)).matches(&"a".repeat(199)));
    assert!(!Glob::new(format!("{}b", "*a".repeat(50))).matches(&"a".repeat(5000)));
}

#[test]
fn outlets_are_numbers_ranges_and_names() {
    let has = |written: &str, outlet: &str| {
        let outlets: OutletPattern = written.parse().expect("outlets");
        outlets.contain(&Outlet::new(outlet))
    };
    for (written, yes, no) in [
        ("1-8", "08", "9"),
        ("3", "003", "30"),
        ("1-8", "1", "left"),
        ("left", "left", "right"),
        ("*", "17", ""),
        ("1.*", "1.4", "2.4"),
    ] {
        assert!(has(written, yes), "{written} {yes}");
        assert!(no.is_empty() || !has(written, no), "{written} {no}");
    }
    assert!(!has("1-8", " 1"));
    assert!(!has("1-8", "-1"));
    assert!("8-1".parse::<OutletPattern>().is_err());
    assert!("".parse::<OutletPattern>().is_err());
}

fn access() -> Access {
    Access {
        tokens: vec![
            Token {
                name: "lava".into(),
                hash: Token::hash_of("lava-token"),
                allow: Some(vec![
                    Rule {
                        pdus: vec![Glob::new("rack*")],
                        outlets: vec![OutletPattern::Numbers(1, 4)],
                        commands: vec!["on".parse().expect("a command")],
                    },
                    Rule {
                        pdus: vec![Glob::new("rack*")],
                        outlets: Vec::new(),
                        commands: vec![Action::State],
                    },
                ]),
            },
            Token {
                name: "admin".into(),
                hash: Token::hash_of("admin-token"),
                allow: None,
            },
        ],
        trusted: vec![network("10.0.0.0/8")],
        hosts: vec!["pdud.lab".into()],
        ..Access::default()
    }
}

/// A client by its name in the log.
fn peer(name: &str) -> Peer {
    Peer {
        origin: match name {
            "unix" => Origin::Unix,
            name => Origin::Ip(ip(name).to_canonical()),
        },
        to_loopback: false,
        certified: None,
    }
}

fn hops<'a>(headers: &[(&str, &'a str)]) -> Hops<'a> {
    let mut hops = Hops::default();
    for (name, value) in headers {
        hops.note(name, value);
    }
    hops
}

fn admit(access: &Access, client: &str, door: Door, facts: &Facts<'_>) -> Result<Caller, Denied> {
    let guest = access.guest(&peer(client), &Hops::default());
    access.admit(&guest, door, facts)
}

#[test]
fn a_token_does_what_it_is_allowed() {
    let lava = Facts {
        authorization: Some("bearer lava-token"),
        ..Facts::default()
    };
    let caller = admit(&access(), "192.0.2.1", Door::Api, &lava).expect("admitted");
    assert_eq!(&**caller.client(), "lava@192.0.2.1");
    let may = |pdu: &str, outlet: &str, action: &str| {
        caller.may(
            pdu,
            &Outlet::new(outlet),
            action.parse().expect("a command"),
        )
    };
    assert!(may("rack1", "4", "on") && may("rack1", "9", "get-status"));
    assert!(!may("rack1", "5", "on") && !may("rack1", "4", "off") && !may("desk", "1", "on"));
    assert!(caller.may_see("rack1") && !caller.may_see("desk") && !caller.may_everything());
    let (one, nine) = (Outlet::new("1"), Outlet::new("9"));
    let on = "on".parse().expect("a command");
    assert!(caller.may_all([("rack1", &one), ("rack2", &one)], on));
    assert!(!caller.may_all([("rack1", &one), ("rack2", &nine)], on));
    assert!(!caller.may_all([], on));
    for (authorization, client) in [
        ("Bearer admin-token", "admin@10.0.0.1"),
        ("Bearer  admin-token ", "admin@10.0.0.1"),
    ] {
        let facts = Facts {
            authorization: Some(authorization),
            ..Facts::default()
        };
        let caller = admit(&access(), "10.0.0.1", Door::Legacy, &facts).expect("admitted");
        assert_eq!(&**caller.client(), client);
        assert!(caller.may_everything() && caller.may_all([], on));
    }
}

#[test]
fn who_comes_in_where() {
    use DeniedKind::{Forbidden, Unauthorized};
    let (none, wrong, basic) = (None, Some("Bearer lava-toke"), Some("Basic bGF2YTo="));
    let cases = [
        // client, door, authorization, with tokens, without
        ("192.0.2.1", Door::Api, none, Err(Unauthorized)),
        ("192.0.2.1", Door::Api, wrong, Err(Unauthorized)),
        ("192.0.2.1", Door::Api, basic, Err(Unauthorized)),
        ("192.0.2.1", Door::Legacy, none, Err(Unauthorized)),
        ("192.0.2.1", Door::Page, none, Ok(false)),
        ("192.0.2.1", Door::Health, none, Ok(false)),
        ("10.0.0.1", Door::Api, none, Err(Unauthorized)),
        ("10.0.0.1", Door::Legacy, none, Ok(true)),
        ("10.0.0.1", Door::Legacy, basic, Ok(true)),
        ("10.0.0.1", Door::Legacy, wrong, Err(Unauthorized)),
        ("::ffff:10.0.0.1", Door::Legacy, none, Ok(true)),
        ("unix", Door::Api, none, Ok(true)),
        ("unix", Door::Legacy, none, Ok(true)),
        ("unix", Door::Api, wrong, Err(Unauthorized)),
    ];
    for (client, door, authorization, expected) in cases {
        let facts = Facts {
            authorization,
            ..Facts::default()
        };
        let got = admit(&access(), client, door, &facts);
        let got = got.map(|caller| caller.may_everything());
        assert_eq!(
            got.map_err(|denied| denied.kind),
            expected,
            "{client} {door:?} {authorization:?}"
        );
        let open = admit(&Access::default(), client, door, &facts).expect("open");
        assert!(open.may_everything());
    }
    let line = |client: &str| {
        let guest = access().guest(&peer(client), &Hops::default());
        access().admit_line(&guest).map(|_| ())
    };
    assert_eq!(line("10.0.0.1"), Ok(()));
    assert_eq!(line("unix"), Ok(()));
    assert_eq!(line("192.0.2.1").expect_err("refused").kind, Forbidden);
}

#[test]
fn a_tricked_browser_is_turned_away() {
    let open = Access {
        hosts: vec!["pdud.lab".into()],
        ..Access::default()
    };
    let passes =
        |access: &Access, door, facts: &Facts<'_>| admit(access, "10.0.0.1", door, facts).is_ok();
    // The Host rule holds on the API always, on the legacy paths with tokens.
    for (host, ours) in [
        ("127.0.0.1:16421", true),
        ("localhost:8080", true),
        ("LOCALHOST", true),
        ("[::1]:16421", true),
        ("[::1]", true),
        ("pdud.lab", true),
        ("Pdud.Lab.:16421", true),
        ("evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("localhost.evil.example:16421", false),
        ("pdud.lab:x", false),
        ("[evil]", false),
        ("::1", false),
        ("", false),
    ] {
        let facts = Facts {
            host: Some(host),
            ..Facts::default()
        };
        assert_eq!(passes(&open, Door::Api, &facts), ours, "{host}");
        assert_eq!(passes(&open, Door::Page, &facts), ours, "{host}");
        // Without tokens the legacy paths have any name, but on loopback.
        assert!(passes(&open, Door::Legacy, &facts), "{host}");
        let to_loopback = |came| Guest {
            origin: Origin::Ip(ip("127.0.0.1")),
            came,
            to_loopback: true,
            certified: None,
        };
        for came in [Came::Alone, Came::ByStranger] {
            let admitted = open.admit(&to_loopback(came), Door::Legacy, &facts);
            assert_eq!(admitted.is_ok(), ours, "{host}");
        }
        // A named proxy has looked at the name itself.
        for came in [Came::Introduced, Came::Untold] {
            for door in [Door::Legacy, Door::Api] {
                let admitted = open.admit(&to_loopback(came), door, &facts);
                assert!(admitted.is_ok(), "{host}");
            }
        }
        assert_eq!(passes(&access(), Door::Legacy, &facts), ours, "{host}");
    }
    let host = Some("pdud.lab:16421");
    for (origin, ours) in [
        ("http://pdud.lab:16421", true),
        ("https://pdud.lab", true),
        ("http://pdud.lab:80801", false),
        ("https://evil.example", false),
        ("null", false),
        ("", false),
        ("pdud.lab:16421", false),
    ] {
        let facts = Facts {
            host,
            origin: Some(origin),
            ..Facts::default()
        };
        assert_eq!(passes(&open, Door::Api, &facts), ours, "{origin}");
        assert_eq!(passes(&open, Door::Legacy, &facts), ours, "{origin}");
        let facts = Facts {
            authorization: Some("Bearer admin-token"),
            ..facts
        };
        assert_eq!(passes(&access(), Door::Legacy, &facts), ours, "{origin}");
        assert_eq!(passes(&access(), Door::Api, &facts), ours, "{origin}");
    }
    for (site, ours) in [
        ("same-origin", true),
        ("none", true),
        ("same-site", false),
        ("cross-site", false),
    ] {
        let facts = Facts {
            is_safe: true,
            host,
            fetch_site: Some(site),
            ..Facts::default()
        };
        assert_eq!(passes(&open, Door::Api, &facts), ours, "{site}");
        assert_eq!(passes(&open, Door::Page, &facts), ours, "{site}");
        assert_eq!(passes(&open, Door::Legacy, &facts), ours, "{site}");
        assert_eq!(passes(&access(), Door::Legacy, &facts), ours, "{site}");
        let link = Facts {
            fetch_mode: Some("navigate"),
            fetch_dest: Some("document"),
            ..facts
        };
        assert!(passes(&open, Door::Page, &link), "{site}");
        assert_eq!(passes(&open, Door::Api, &link), ours, "{site}");
        let frame = Facts {
            fetch_dest: Some("iframe"),
            ..link
        };
        assert_eq!(passes(&open, Door::Page, &frame), ours, "{site}");
    }
    // An <img> over plain HTTP: nothing but the browser's name tells it from a script.
    let image = Facts {
        is_safe: true,
        host,
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)"),
        ..Facts::default()
    };
    assert!(passes(&open, Door::Legacy, &image));
    assert!(!passes(&access(), Door::Legacy, &image));
    let script = Facts {
        user_agent: Some("curl/8.5.0"),
        ..image
    };
    assert!(passes(&access(), Door::Legacy, &script));
    let twice = Facts {
        is_ambiguous: true,
        ..Facts::default()
    };
    assert!(!passes(&open, Door::Api, &twice));
}

#[test]
fn paths_lead_to_doors() {
    for (path, door) in [
        ("/", Door::Page),
        ("/api", Door::Api),
        ("/api/v1/pdus", Door::Api),
        ("/%61pi/v1/pdus", Door::Api),
        ("/page.js", Door::Page),
        ("/healthz", Door::Health),
        ("/metrics", Door::Legacy),
        ("/power/control/on", Door::Legacy),
        ("http://h/api", Door::Api),
    ] {
        assert_eq!(Door::of(path), door, "{path}");
    }
}

#[test]
fn guesses_are_few_and_the_table_is_bounded() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let mut buckets = Buckets::new(3, 0.5, 4);
    let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
    for _ in 0..3 {
        assert!(buckets.take(one, start));
    }
    assert!(!buckets.take(one, start));
    assert!(!buckets.take(ip("::ffff:192.0.2.1"), start));
    assert!(buckets.take(two, start));
    assert!(!buckets.take(one, after(1)) && buckets.take(one, after(2)));
    assert!(!buckets.take(one, after(2)));
    // After a long while the bucket is full, not fuller.
    for _ in 0..3 {
        assert!(buckets.take(one, after(1000)));
    }
    assert!(!buckets.take(one, after(1000)));
    // One /64 is one client.
    let mut v6 = Buckets::new(1, 1.0, 10);
    assert!(v6.take(ip("2001:db8::1"), start) && !v6.take(ip("2001:db8::2"), start));
    assert!(v6.take(ip("2001:db8:0:1::1"), start));
    // Full: those forgotten are the ones that have been quiet for longest.
    for number in 0..100_u32 {
        let other = IpAddr::from(std::net::Ipv4Addr::from_bits(number));
        assert!(buckets.take(other, after(1001 + u64::from(number))));
        assert!(buckets.size() <= 4);
    }
    // A clock that seems to go back takes nothing away.
    assert!(buckets.take(two, start));
}

#[test]
fn a_client_with_ipv6_has_a_whole_64() {
    for (address, counted) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::1", "::"),
    ] {
        assert_eq!(counted_as(ip(address)), ip(counted), "{address}");
    }
}

/// Who is trusted, line by line: `None` for a stranger, else the address that counts.
#[test]
fn who_is_trusted_behind_proxies() {
    let access = Access {
        proxies: ["127.0.0.1", "10.0.0.8/30", "fd00::1"]
            .map(|text| text.parse().expect("a proxy"))
            .into(),
        ..access()
    };
    let unix = Access {
        proxies: vec!["unix".parse().expect("a proxy")],
        ..access.clone()
    };
    const XFF: &str = "X-Forwarded-For";
    let trusted = Some("10.1.2.3");
    // peer, headers, the client's address when it is known
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let table: &[Row<'_>] = &[
        // Straight: an address is what it is.
        ("10.1.2.3", &[], trusted),
        ("192.0.2.7", &[], Some("192.0.2.7")),
        ("unix", &[], Some("unix")),
        // Through a proxy that is not named, or with headers like one's: nothing is known.
        ("10.1.2.3", &[(XFF, "10.1.2.3")], None),
        ("10.1.2.3", &[("x-forwarded-for", "203.0.113.7")], None),
        ("10.1.2.3", &[(XFF, "")], None),
        ("10.1.2.3", &[("Forwarded", "for=203.0.113.7")], None),
        ("10.1.2.3", &[("X-Real-IP", "203.0.113.7")], None),
        ("10.1.2.3", &[("Via", "1.1 squid")], None),
        ("10.1.2.3", &[("X-Forwarded-Proto", "https")], None),
        ("10.1.2.3", &[("X-FORWARDED-HOST", "x")], None),
        ("unix", &[(XFF, "203.0.113.7")], None),
        ("unix", &[("Via", "1.1 squid")], None),
        // No header of a proxy.
        (
            "10.1.2.3",
            &[("X-Forwarder", "x"), ("Viable", "x")],
            trusted,
        ),
        // Through a named proxy: the address it tells.
        ("127.0.0.1", &[(XFF, "10.1.2.3")], trusted),
        ("127.0.0.1", &[(XFF, " 10.1.2.3:4711 ")], trusted),
        ("127.0.0.1", &[(XFF, "::ffff:10.1.2.3")], trusted),
        ("127.0.0.1", &[(XFF, "203.0.113.7")], Some("203.0.113.7")),
        ("127.0.0.1", &[("X-Real-IP", "10.1.2.3")], trusted),
        ("127.0.0.1", &[("Forwarded", "for=10.1.2.3")], trusted),
        (
            "fd00::1",
            &[("Forwarded", r#"For="[2001:db8::1]:4711" ; proto=http;by=x"#)],
            Some("2001:db8::1"),
        ),
        ("fd00::1", &[(XFF, "[2001:db8::1]")], Some("2001:db8::1")),
        ("fd00::1", &[(XFF, "2001:db8::1")], Some("2001:db8::1")),
        // The last that is not a named proxy; before it stands whatever the client has written.
        (
            "127.0.0.1",
            &[(XFF, "10.1.2.3, 203.0.113.7")],
            Some("203.0.113.7"),
        ),
        (
            "127.0.0.1",
            &[(XFF, "nonsense, 10.1.2.3, 10.0.0.9,10.0.0.8")],
            trusted,
        ),
        (
            "127.0.0.1",
            &[(XFF, "10.1.2.3"), (XFF, "203.0.113.7")],
            Some("203.0.113.7"),
        ),
        (
            "127.0.0.1",
            &[(
                "Forwarded",
                r#"for=10.1.2.3, for=203.0.113.7;by="[fd00::1]",for=127.0.0.1"#,
            )],
            Some("203.0.113.7"),
        ),
        (
            "127.0.0.1",
            &[(XFF, "10.1.2.3, 10.0.0.9"), ("X-Real-IP", "10.0.0.9")],
            trusted,
        ),
        // A proxy writes one header, the client another: they do not tell the same.
        (
            "127.0.0.1",
            &[("Forwarded", "for=10.1.2.3"), (XFF, "203.0.113.7")],
            None,
        ),
        (
            "127.0.0.1",
            &[(XFF, "10.1.2.3"), ("X-Real-IP", "203.0.113.7")],
            None,
        ),
        // Nothing that can be read.
        ("127.0.0.1", &[], None),
        ("127.0.0.1", &[("Via", "1.1 squid")], None),
        ("127.0.0.1", &[(XFF, "")], None),
        ("127.0.0.1", &[(XFF, "unix:")], None),
        ("127.0.0.1", &[(XFF, "10.1.2.3,")], None),
        ("127.0.0.1", &[(XFF, "10.1.2.3, unknown")], None),
        ("127.0.0.1", &[(XFF, "10.1.2.3, [10.1.2.3]")], None),
        ("127.0.0.1", &[(XFF, "10.1.2.3:x")], None),
        ("127.0.0.1", &[(XFF, "010.1.2.3")], None),
        ("127.0.0.1", &[(XFF, "127.0.0.1, 10.0.0.9")], None),
        ("127.0.0.1", &[("X-Real-IP", "x"), (XFF, "10.1.2.3")], None),
        ("127.0.0.1", &[("Forwarded", "")], None),
        ("127.0.0.1", &[("Forwarded", "10.1.2.3")], None),
        ("127.0.0.1", &[("Forwarded", "for=")], None),
        ("127.0.0.1", &[("Forwarded", "for=_hidden")], None),
        ("127.0.0.1", &[("Forwarded", r#"for="10.1.2.3"#)], None),
        ("127.0.0.1", &[("Forwarded", r#"for="10.1.2.3"x"#)], None),
        (
            "127.0.0.1",
            &[("Forwarded", "for=10.1.2.3;for=10.1.2.3")],
            None,
        ),
        (
            "127.0.0.1",
            &[("Forwarded", "for=10.1.2.3, proto=http")],
            None,
        ),
        ("127.0.0.1", &[("Forwarded", "for=10.1.2.3,")], None),
        ("127.0.0.1", &[("Forwarded", "for 10.1.2.3")], None),
        // A quote that the client opened does not swallow what the proxy adds.
        (
            "127.0.0.1",
            &[("Forwarded", r#"for=10.1.2.3;x=", for=203.0.113.7"#)],
            None,
        ),
        ("127.0.0.1", &[("Forwarded", r#"for=10.1.2.3;x=""#)], None),
        (
            "127.0.0.1",
            &[("Forwarded", r#"for=10.1.2.3;x="\", for="[2001:db8::7]""#)],
            None,
        ),
    ];
    let token = Facts {
        authorization: Some("Bearer admin-token"),
        ..Facts::default()
    };
    for (client, headers, known) in table {
        let guest = access.guest(&peer(client), &hops(headers));
        let expected = known.map_or(peer(client).origin, |name| peer(name).origin);
        assert_eq!(guest.origin, expected, "{client} {headers:?}");
        assert_eq!(guest.is_known(), known.is_some(), "{client} {headers:?}");
        let is_trusted = matches!(known, Some("10.1.2.3" | "unix"));
        assert_eq!(access.trusts(&guest), is_trusted, "{client} {headers:?}");
        let legacy = access.admit(&guest, Door::Legacy, &Facts::default());
        assert_eq!(legacy.is_ok(), is_trusted, "{client} {headers:?}");
        let api = access.admit(&guest, Door::Api, &Facts::default());
        assert_eq!(api.is_ok(), *known == Some("unix"), "{client} {headers:?}");
        assert_eq!(access.admit_line(&guest).is_ok(), is_trusted);
        // A token is a token, wherever from.
        for door in [Door::Legacy, Door::Api] {
            let caller = access.admit(&guest, door, &token).expect("admitted");
            assert!(caller.may_everything());
            assert_eq!(**caller.client(), format!("admin@{expected}"));
        }
        // Without tokens everybody may, as ever.
        let open = Access {
            proxies: access.proxies.clone(),
            ..Access::default()
        };
        let guest = open.guest(&peer(client), &hops(headers));
        assert!(open.admit(&guest, Door::Legacy, &Facts::default()).is_ok());
        assert!(open.admit_line(&guest).is_ok());
    }
    // The Unix socket as a proxy's.
    for (headers, known) in [
        (&[][..], None),
        (&[(XFF, "10.1.2.3")], Some("10.1.2.3")),
        (&[(XFF, "203.0.113.7")], Some("203.0.113.7")),
        (&[(XFF, "x")], None),
    ] {
        let guest = unix.guest(&peer("unix"), &hops(headers));
        assert_eq!(guest.is_known(), known.is_some(), "{headers:?}");
        assert_eq!(unix.trusts(&guest), known == Some("10.1.2.3"));
        assert_eq!(guest.origin, peer(known.unwrap_or("unix")).origin);
        let api = unix.admit(&guest, Door::Api, &Facts::default());
        assert_eq!(api.expect_err("a stranger").kind, DeniedKind::Unauthorized);
    }
}

#[test]
fn a_stranger_is_told_why_the_address_does_not_count() {
    let access = Access {
        proxies: vec!["127.0.0.1".parse().expect("a proxy")],
        ..access()
    };
    for (client, headers, why) in [
        ("10.1.2.3", &[("Via", "x")][..], "daemon.access.proxies"),
        ("127.0.0.1", &[], "did not tell"),
    ] {
        let guest = access.guest(&peer(client), &hops(headers));
        let denied = access.admit(&guest, Door::Legacy, &Facts::default());
        let reason = denied.expect_err("a stranger").reason;
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn pages_of_the_labs_own_sites_go_on() {
    let open = Access {
        sites: vec!["wiki.lab".into(), "10.0.0.5".into()],
        ..Access::default()
    };
    let guarded = Access {
        sites: open.sites.clone(),
        ..access()
    };
    // Origin, Referer, does it pass?
    for (origin, referer, ours) in [
        (Some("http://wiki.lab"), None, true),
        (Some("https://Wiki.Lab.:8443"), None, true),
        (Some("http://10.0.0.5:3000"), None, true),
        (
            None,
            Some("http://wiki.lab/page?x=http://evil.example/"),
            true,
        ),
        (None, Some("http://wiki.lab"), true),
        (Some("http://evil.example"), Some("http://wiki.lab/"), false),
        (Some("null"), Some("http://wiki.lab/"), false),
        (Some("http://not-wiki.lab"), None, false),
        (Some("wiki.lab"), None, false),
        (Some("ftp://wiki.lab"), None, false),
        (None, Some("http://evil.example/wiki.lab"), false),
        (None, Some("http://wiki.lab.evil.example/"), false),
        (None, Some("http://wiki.lab:80@evil.example/"), false),
        (None, Some("http://wiki.lab@evil.example/"), false),
        (None, Some("https://evil.example?http://wiki.lab/"), false),
        (None, None, false),
    ] {
        let facts = Facts {
            is_safe: true,
            host: Some("localhost:16421"),
            fetch_site: Some("cross-site"),
            user_agent: Some("Mozilla/5.0"),
            origin,
            referer,
            ..Facts::default()
        };
        for access in [&open, &guarded] {
            let passes = |door| admit(access, "10.0.0.1", door, &facts).is_ok();
            assert_eq!(passes(Door::Legacy), ours, "{origin:?} {referer:?}");
            assert!(!passes(Door::Api) && !passes(Door::Page), "{origin:?}");
        }
        // Over plain HTTP there is no Sec-Fetch-Site.
        let plain = Facts {
            fetch_site: None,
            ..facts
        };
        let passes = |access| admit(access, "10.0.0.1", Door::Legacy, &plain).is_ok();
        assert_eq!(passes(&guarded), ours, "{origin:?} {referer:?}");
        assert_eq!(passes(&open), ours || origin.is_none(), "{origin:?}");
    }
}

#[test]
fn neither_token_nor_hash_is_printed() {
    let printed = format!("{:?}", access());
    assert!(
        printed.contains("lava") && !printed.contains("hash"),
        "{printed}"
    );
}

#[test]
fn a_certificate_is_as_good_as_the_token_of_its_name() {
    let access = access();
    let shows = |client: &str, name: &str, headers: &[(&str, &str)]| {
        let peer = Peer {
            certified: Some(name.into()),
            ..peer(client)
        };
        access.guest(&peer, &hops(headers))
    };
    let lava = shows("192.0.2.1", "lava", &[]);
    for door in [Door::Api, Door::Legacy] {
        let caller = access.admit(&lava, door, &Facts::default());
        let caller = caller.expect("admitted");
        assert_eq!(&**caller.client(), "lava@192.0.2.1");
        assert!(!caller.may_everything());
    }
    let line = access.admit_line(&lava).expect("admitted");
    assert_eq!(&**line.client(), "lava@192.0.2.1");
    assert!(!line.may_everything());
    // A token that is shown counts before it, and a wrong one does not fall back to it.
    let with = |token| Facts {
        authorization: Some(token),
        ..Facts::default()
    };
    let admin = access.admit(&lava, Door::Api, &with("Bearer admin-token"));
    assert!(admin.expect("admitted").may_everything());
    let wrong = access.admit(&lava, Door::Api, &with("Bearer nobodys"));
    assert_eq!(wrong.map_err(|denied| denied.status()).err(), Some(401));
    // The page does nothing by itself.
    let page = access.admit(&lava, Door::Page, &Facts::default());
    assert!(!page.expect("admitted").may_see("apc1"));
    // A browser shows it by itself, whoever's page has asked.
    for (fetch_site, passes) in [
        (Some("same-origin"), true),
        (Some("cross-site"), false),
        (None, false),
    ] {
        let facts = Facts {
            user_agent: Some("Mozilla/5.0"),
            fetch_site,
            ..Facts::default()
        };
        for door in [Door::Api, Door::Legacy] {
            let admitted = access.admit(&lava, door, &facts);
            assert_eq!(admitted.is_ok(), passes, "{fetch_site:?}");
        }
    }
    // One that no token is named after, and that of a proxy, let nobody in.
    let stranger = shows("192.0.2.1", "stranger", &[]);
    let denied = access.admit(&stranger, Door::Api, &Facts::default());
    let denied = denied.expect_err("denied");
    assert!(
        denied.reason.contains("\"stranger\"'s"),
        "{}",
        denied.reason
    );
    assert!(access.admit_line(&stranger).is_err());
    let behind = shows("192.0.2.1", "admin", &[("X-Forwarded-For", "198.51.100.7")]);
    assert!(access.admit(&behind, Door::Api, &Facts::default()).is_err());
}
