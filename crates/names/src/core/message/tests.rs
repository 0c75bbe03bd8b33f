use std::collections::BTreeSet;

use super::*;
use crate::core::zone::tests::{facts, task, view};

fn zone_of(count: u8) -> Zone {
    let tasks = (0..count).map(|host| (1, task(&format!("10.128.1.{}", host + 2), "web", true)));
    Zone::build(&view(), &facts(tasks), &BTreeSet::new())
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_with(zone: &Zone, message: &Message, transport: Transport) -> Option<Message> {
    match examine(zone, &message.to_vec().unwrap(), transport, 1) {
        Verdict::Answer(bytes) => Some(Message::from_vec(&bytes).unwrap()),
        Verdict::Forward(_) => None,
        Verdict::Drop(reason) => panic!("dropped: {reason:?}"),
    }
}

fn ask(name: &str, kind: RecordType) -> Option<Message> {
    ask_with(&zone_of(2), &question(name, kind), Transport::Udp)
}

fn check(name: &str, kind: RecordType, code: ResponseCode, answers: usize) {
    let answer = ask(name, kind).unwrap_or_else(|| panic!("{name} {kind} was forwarded"));
    let seen = (answer.metadata.response_code, answer.answers.len());
    assert_eq!(seen, (code, answers), "{name} {kind}");
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.queries.len(), 1);
    let negative = answers == 0 && code != ResponseCode::Refused;
    let authority = answer.authorities.first().map(Record::record_type);
    assert_eq!(
        authority,
        negative.then_some(RecordType::SOA),
        "{name} {kind}"
    );
}

#[test]
fn each_type_of_record_gets_its_right_answer() {
    use RecordType as T;
    use ResponseCode as C;
    let web = "web.shop.home.internal.";
    check(web, T::A, C::NoError, 2);
    check(web, T::ANY, C::NoError, 2);
    check(web, T::AAAA, C::NoError, 0);
    check(web, T::MX, C::NoError, 0);
    check(web, T::HTTPS, C::NoError, 0);
    check(web, T::Unknown(65_400), C::NoError, 0);
    check("db.shop.home.internal.", T::A, C::NoError, 0);
    check("shop.home.internal.", T::A, C::NoError, 0);
    check("no.shop.home.internal.", T::A, C::NXDomain, 0);
    check("atlas.node.home.internal.", T::A, C::NoError, 1);
    check("home.internal.", T::SOA, C::NoError, 1);
    check("home.internal.", T::NS, C::NoError, 1);
    check("home.internal.", T::A, C::NoError, 1);
    check(web, T::AXFR, C::Refused, 0);
    check(web, T::IXFR, C::Refused, 0);
}

#[test]
fn answers_are_authoritative_short_lived_and_in_the_askers_spelling() {
    let answer = ask("wEb.ShOp.home.INTERNAL.", RecordType::A).unwrap();
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.answers[0].name.to_ascii(), "wEb.ShOp.home.INTERNAL.");
    assert_eq!(answer.answers[0].ttl, TTL_SECONDS);
    let missing = ask("no.shop.home.internal.", RecordType::A).unwrap();
    let RData::SOA(soa) = &missing.authorities[0].data else {
        panic!("no SOA");
    };
    assert_eq!((soa.minimum, soa.serial), (TTL_SECONDS, 7));
}

#[test]
fn nothing_of_the_cluster_is_asked_of_others() {
    let local =
        |name: &str, kind| assert!(ask(name, kind).is_some(), "{name} {kind} was forwarded");
    let foreign = |name: &str, kind| assert!(ask(name, kind).is_none(), "{name} {kind} was kept");
    local("anything.home.internal.", RecordType::A);
    local("web.", RecordType::A);
    local("web.", RecordType::TXT);
    local("2.1.128.10.in-addr.arpa.", RecordType::PTR);
    local("1.128.10.in-addr.arpa.", RecordType::SOA);
    local("lb._dns-sd._udp.0.0.72.100.in-addr.arpa.", RecordType::PTR);
    local("lb._dns-sd._udp.72.100.in-addr.arpa.", RecordType::PTR);
    foreign("example.org.", RecordType::A);
    foreign("a.other.internal.", RecordType::A);
    foreign("org.", RecordType::DS);
    foreign("1.2.0.192.in-addr.arpa.", RecordType::PTR);
    foreign("10.in-addr.arpa.", RecordType::SOA);
}

#[test]
fn an_address_of_the_cluster_has_a_name() {
    let answer = ask("2.1.128.10.in-addr.arpa.", RecordType::PTR).unwrap();
    let RData::PTR(PTR(name)) = &answer.answers[0].data else {
        panic!("no PTR");
    };
    assert_eq!(name.to_ascii(), "web.shop.home.internal.");
    check(
        "2.0.72.100.in-addr.arpa.",
        RecordType::PTR,
        ResponseCode::NoError,
        1,
    );
    check(
        "200.1.128.10.in-addr.arpa.",
        RecordType::PTR,
        ResponseCode::NXDomain,
        0,
    );
    check(
        "2.1.128.10.in-addr.arpa.",
        RecordType::TXT,
        ResponseCode::NoError,
        0,
    );
}

#[test]
fn an_answer_that_does_not_fit_says_that_it_was_cut() {
    let zone = zone_of(200);
    let mut message = question("web.shop.home.internal.", RecordType::A);
    let answers = |message: &Message, transport| {
        let Verdict::Answer(bytes) = examine(&zone, &message.to_vec().unwrap(), transport, 1)
        else {
            panic!("no answer");
        };
        let answer = Message::from_vec(&bytes).unwrap();
        (
            bytes.len(),
            answer.metadata.truncation,
            answer.answers.len(),
        )
    };
    let (length, cut, count) = answers(&message, Transport::Udp);
    assert!(length <= 512 && cut && 20 < count, "{length} {count}");
    assert_eq!(answers(&message, Transport::Tcp).2, 200);
    assert!(!answers(&message, Transport::Tcp).1);
    let mut edns = Edns::new();
    edns.set_max_payload(65_535);
    message.set_edns(edns);
    let (length, cut, count) = answers(&message, Transport::Udp);
    assert!(
        512 < length && length <= 1_232 && cut && 60 < count,
        "{length} {count}"
    );
}

#[test]
fn edns_is_answered_with_edns_of_version_0() {
    let mut message = question("web.shop.home.internal.", RecordType::A);
    assert!(
        ask_with(&zone_of(1), &message, Transport::Udp)
            .unwrap()
            .edns
            .is_none()
    );
    message.set_edns(Edns::new());
    let answer = ask_with(&zone_of(1), &message, Transport::Udp).unwrap();
    assert_eq!(answer.edns.unwrap().max_payload(), 1_232);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    let answer = ask_with(&zone_of(1), &message, Transport::Udp).unwrap();
    let edns = answer.edns.unwrap();
    // BADVERS is 16: its high bits travel in the OPT record (RFC 6891, section 6.1.3).
    assert_eq!((edns.version(), edns.rcode_high()), (0, 1));
    assert!(answer.answers.is_empty());
}

#[test]
fn what_is_no_question_gets_no_answer_or_an_error() {
    let zone = zone_of(1);
    let drop = |bytes: &[u8], reason| match examine(&zone, bytes, Transport::Udp, 1) {
        Verdict::Drop(seen) => assert_eq!(seen, reason),
        other => panic!("{other:?}"),
    };
    drop(&[], Reason::Length);
    drop(&[0; 11], Reason::Length);
    let good = question("web.shop.home.internal.", RecordType::A);
    let mut response = good.clone();
    response.metadata.message_type = MessageType::Response;
    drop(&response.to_vec().unwrap(), Reason::NotAQuestion);
    let code = |bytes: &[u8]| match examine(&zone, bytes, Transport::Udp, 1) {
        Verdict::Answer(bytes) => Message::from_vec(&bytes).unwrap().metadata.response_code,
        other => panic!("{other:?}"),
    };
    let mut two = good.clone();
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(code(&two.to_vec().unwrap()), ResponseCode::FormErr);
    let whole = good.to_vec().unwrap();
    assert_eq!(code(&whole[..whole.len() - 1]), ResponseCode::FormErr);
    let mut long = whole.clone();
    long.resize(QUESTION_BYTES_MAX + 1, 0);
    assert_eq!(code(&long), ResponseCode::FormErr);
    let mut status = good.clone();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(code(&status.to_vec().unwrap()), ResponseCode::NotImp);
    let mut chaos = good;
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos.to_vec().unwrap()), ResponseCode::Refused);
}

#[test]
fn an_answer_to_another_question_is_not_taken() {
    let bytes = question("Example.org.", RecordType::A).to_vec().unwrap();
    let Verdict::Forward(forwarded) = examine(&zone_of(0), &bytes, Transport::Udp, 1) else {
        panic!("not forwarded");
    };
    let asked = Message::from_vec(&forwarded.outgoing(0x4242)).unwrap();
    assert_eq!(asked.metadata.id, 0x4242);
    assert_eq!(asked.queries[0].name().to_ascii(), "Example.org.");
    let mut answer = asked.clone();
    answer.metadata.message_type = MessageType::Response;
    let take = |answer: &Message| forwarded.incoming(0x4242, &answer.to_vec().unwrap());
    let taken = take(&answer).unwrap();
    assert_eq!(taken.bytes[..2], [0x12, 0x34]);
    assert!(!taken.truncated && !taken.failed);
    assert!(
        forwarded
            .incoming(0x4243, &answer.to_vec().unwrap())
            .is_none()
    );
    assert!(take(&asked).is_none(), "a question is no answer");
    let mut other = answer.clone();
    other.queries[0].set_name(Name::from_ascii("example.com.").unwrap());
    assert!(take(&other).is_none());
    let mut other = answer.clone();
    other.queries[0].set_query_type(RecordType::TXT);
    assert!(take(&other).is_none());
    answer.metadata.response_code = ResponseCode::ServFail;
    assert!(take(&answer).unwrap().failed);
    let mut long = answer.to_vec().unwrap();
    long.resize(600, 0);
    let cut = forwarded.incoming(0x4242, &long).unwrap();
    assert!(cut.truncated && cut.bytes.len() < 512);
}

#[test]
fn damaged_questions_never_panic() {
    let zone = zone_of(3);
    let mut message = question("web.shop.home.internal.", RecordType::A);
    message.set_edns(Edns::new());
    let whole = message.to_vec().unwrap();
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut answered = 0;
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        let [count, position, value, cut, ..] = next();
        for change in 0..=count % 4 {
            let at = usize::from(position.wrapping_add(change.wrapping_mul(37))) % bytes.len();
            bytes[at] = value.wrapping_mul(change + 1);
        }
        bytes.truncate(bytes.len() - usize::from(cut) % 4);
        match examine(&zone, &bytes, Transport::Udp, 1) {
            Verdict::Answer(answer) => {
                answered += 1;
                assert!(answer.len() <= 1_232);
            }
            Verdict::Forward(question) => {
                let outgoing = question.outgoing(1);
                let _ = question.incoming(1, &bytes);
                assert!(Message::from_vec(&outgoing).is_ok());
            }
            Verdict::Drop(_) => {}
        }
    }
    assert!(10_000 < answered, "{answered}");
}
