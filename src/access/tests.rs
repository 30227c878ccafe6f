//! Networks, patterns, tokens, tricked browsers, and how often one may guess.

use super::*;

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
        let outlets: Outlets = written.parse().expect("outlets");
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
    assert!("8-1".parse::<Outlets>().is_err());
    assert!("".parse::<Outlets>().is_err());
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
                        outlets: vec![Outlets::Numbers(1, 4)],
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
    }
}

fn admit(access: &Access, client: &str, door: Door, facts: &Facts<'_>) -> Result<Caller, Denied> {
    let origin: Origin = client.parse().expect("any name is one");
    access.admit(&client.into(), origin, door, facts)
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
        ("unknown", Door::Legacy, none, Err(Unauthorized)),
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
        let origin = client.parse().expect("any name is one");
        access().admit_line(&client.into(), origin).map(|_| ())
    };
    assert_eq!(line("10.0.0.1"), Ok(()));
    assert_eq!(line("unix"), Ok(()));
    assert_eq!(line("192.0.2.1").expect_err("refused").kind, Forbidden);
    assert_eq!(line("unknown").expect_err("refused").kind, Forbidden);
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
        assert!(passes(&open, Door::Legacy, &facts), "{host}");
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
        assert!(passes(&open, Door::Legacy, &facts), "{origin}");
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
        assert!(passes(&open, Door::Legacy, &facts), "{site}");
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
        assert!(!buckets.is_empty(one, start));
        assert!(buckets.take(one, start));
    }
    assert!(buckets.is_empty(one, start) && !buckets.take(one, start));
    assert!(buckets.is_empty(ip("::ffff:192.0.2.1"), start));
    assert!(!buckets.is_empty(two, start));
    assert!(buckets.is_empty(one, after(1)) && buckets.take(one, after(2)));
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
        assert!(buckets.left.len() <= 4);
    }
    // A clock that seems to go back takes nothing away.
    assert!(!buckets.is_empty(two, start));
}

#[test]
fn neither_token_nor_hash_is_printed() {
    let printed = format!("{:?}", access());
    assert!(
        printed.contains("lava") && !printed.contains("hash"),
        "{printed}"
    );
}
