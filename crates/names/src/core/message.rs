//! What to do with a DNS message: answer, ask others, or drop it.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, NS, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use ipnet::Ipv4Net;

use super::zone::{Lookup, TTL_SECONDS, Zone};

/// Longest question over UDP that is read, in bytes. More is dropped unread.
pub const QUESTION_BYTES_MAX: usize = 1_232;
/// Longest answer over UDP: what fits every path unfragmented (DNS Flag Day 2020).
const UDP_BYTES_MAX: u16 = 1_232;
/// Longest answer over UDP without EDNS (RFC 1035, section 4.2.1).
const UDP_BYTES_PLAIN: u16 = 512;

/// What carries a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What to do with a question.
#[derive(Debug)]
pub enum Verdict {
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Ask the host's resolvers.
    Forward(Question),
    /// Say nothing.
    Drop(Reason),
}

/// Why a message gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Shorter than a header, or longer than a question may be.
    Length,
    /// It is an answer. Answering answers makes loops.
    NotAQuestion,
}

/// A question about somebody else's name.
#[derive(Debug, Clone)]
pub struct Question {
    id: u16,
    query: Query,
    edns: Option<Edns>,
    recursion_desired: bool,
    checking_disabled: bool,
    transport: Transport,
}

/// Decides what to do with a message. `seed` picks the order of addresses.
pub fn examine(zone: &Zone, bytes: &[u8], transport: Transport, seed: u64) -> Verdict {
    let Some(header) = header(bytes) else {
        return Verdict::Drop(Reason::Length);
    };
    if header.metadata.message_type != MessageType::Query {
        return Verdict::Drop(Reason::NotAQuestion);
    }
    let id = header.metadata.id;
    let refuse = |code| {
        let mut message = Message::error_msg(id, header.metadata.op_code, code);
        message.metadata.recursion_desired = header.metadata.recursion_desired;
        Verdict::Answer(encode(&message))
    };
    if QUESTION_BYTES_MAX < bytes.len() || header.counts.queries != 1 {
        return refuse(ResponseCode::FormErr);
    }
    if header.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let Ok(mut message) = Message::from_vec(bytes) else {
        return refuse(ResponseCode::FormErr);
    };
    let Some(query) = message.queries.pop() else {
        return refuse(ResponseCode::FormErr);
    };
    let question = Question {
        id,
        query,
        edns: message.edns.take(),
        recursion_desired: header.metadata.recursion_desired,
        checking_disabled: header.metadata.checking_disabled,
        transport,
    };
    question.examine(zone, seed)
}

fn header(bytes: &[u8]) -> Option<Header> {
    Header::read(&mut BinDecoder::new(bytes)).ok()
}

impl Question {
    fn examine(self, zone: &Zone, seed: u64) -> Verdict {
        if self.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return self.answer_code(ResponseCode::BADVERS);
        }
        let transfer = matches!(
            self.query.query_type(),
            RecordType::AXFR | RecordType::IXFR | RecordType::OPT | RecordType::TSIG
        );
        if self.query.query_class() != DNSClass::IN || transfer {
            return self.answer_code(ResponseCode::Refused);
        }
        let labels: Vec<String> = self
            .query
            .name()
            .iter()
            .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
            .collect();
        match zone.resolve(&labels, seed) {
            Lookup::Addresses { addresses, .. } => self.answer_addresses(zone, &labels, &addresses),
            Lookup::NoAddress => self.answer_nothing(zone, ResponseCode::NoError),
            Lookup::NoSuchName => self.answer_nothing(zone, ResponseCode::NXDomain),
            Lookup::Foreign => self.examine_foreign(zone, &labels),
        }
    }

    /// Names outside of the zone: addresses of the cluster by reverse name are answered here, names
    /// without a dot nowhere, the rest by others. Nobody outside learns what the cluster asks about
    /// itself.
    fn examine_foreign(self, zone: &Zone, labels: &[String]) -> Verdict {
        if let Some(net) = reverse_net(labels)
            && zone.owns(net)
        {
            return self.answer_reverse(zone, net);
        }
        let about_delegation = matches!(
            self.query.query_type(),
            RecordType::NS | RecordType::SOA | RecordType::DS | RecordType::DNSKEY
        );
        if labels.len() < 2 && !about_delegation {
            return self.answer_code(ResponseCode::NXDomain);
        }
        Verdict::Forward(self)
    }

    fn answer_addresses(self, zone: &Zone, labels: &[String], addresses: &[Ipv4Addr]) -> Verdict {
        let is_apex = labels == zone.apex();
        let mut answer = self.begin(ResponseCode::NoError, true);
        let name = self.query.name().clone();
        let record = |data| Record::from_rdata(name.clone(), TTL_SECONDS, data);
        match self.query.query_type() {
            RecordType::A | RecordType::ANY => {
                let records = addresses
                    .iter()
                    .map(|address| record(RData::A(A(*address))));
                answer.add_answers(records);
            }
            RecordType::SOA if is_apex => {
                answer.add_answer(zone_authority(zone));
            }
            RecordType::NS if is_apex => {
                answer.add_answer(record(RData::NS(NS(name.clone()))));
            }
            _ => return self.answer_nothing(zone, ResponseCode::NoError),
        }
        Verdict::Answer(self.fit(answer))
    }

    fn answer_nothing(self, zone: &Zone, code: ResponseCode) -> Verdict {
        let mut answer = self.begin(code, true);
        answer.add_authority(zone_authority(zone));
        Verdict::Answer(self.fit(answer))
    }

    fn answer_reverse(self, zone: &Zone, net: Ipv4Net) -> Verdict {
        let host = (net.prefix_len() == 32).then(|| net.network());
        let name = host.and_then(|address| zone.name_of(address));
        let code = match (host, name) {
            (Some(_), None) => ResponseCode::NXDomain,
            _ => ResponseCode::NoError,
        };
        let mut answer = self.begin(code, true);
        let wants = matches!(self.query.query_type(), RecordType::PTR | RecordType::ANY);
        match name.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
            Some(name) if wants => {
                let owner = self.query.name().clone();
                answer.add_answer(Record::from_rdata(
                    owner,
                    TTL_SECONDS,
                    RData::PTR(PTR(name)),
                ));
            }
            _ => {
                // The reverse zone begins at its second number: `72.100.in-addr.arpa`.
                let labels = usize::from(self.query.name().num_labels()).min(4);
                answer.add_authority(authority(self.query.name().trim_to(labels), zone));
            }
        }
        Verdict::Answer(self.fit(answer))
    }

    fn answer_code(self, code: ResponseCode) -> Verdict {
        Verdict::Answer(self.failure(code))
    }

    /// Encodes an answer that says only `code`.
    pub fn failure(&self, code: ResponseCode) -> Vec<u8> {
        self.fit(self.begin(code, false))
    }

    /// Encodes the answer that none of the host's resolvers gave one.
    pub fn server_failure(&self) -> Vec<u8> {
        self.failure(ResponseCode::ServFail)
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    fn begin(&self, code: ResponseCode, authoritative: bool) -> Message {
        let mut answer = Message::response(self.id, OpCode::Query);
        answer.metadata.recursion_desired = self.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = authoritative;
        answer.metadata.checking_disabled = self.checking_disabled;
        answer.metadata.response_code = code;
        answer.add_query(self.query.clone());
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES_MAX);
            edns.set_version(0);
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            answer.set_edns(edns);
        }
        answer
    }

    fn bytes_max(&self) -> usize {
        let asked = match (&self.edns, self.transport) {
            (_, Transport::Tcp) => u16::MAX,
            (Some(edns), Transport::Udp) => {
                edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX)
            }
            (None, Transport::Udp) => UDP_BYTES_PLAIN,
        };
        usize::from(asked)
    }

    /// Encodes an answer; leaves out answers that do not fit and says so (TC, RFC 2181, section 9).
    fn fit(&self, mut answer: Message) -> Vec<u8> {
        let mut bytes = encode(&answer);
        while self.bytes_max() < bytes.len() && answer.answers.pop().is_some() {
            answer.metadata.truncation = true;
            bytes = encode(&answer);
        }
        bytes
    }

    /// Encodes the question as it is asked of others, under an id of its own.
    pub fn outgoing(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.query.clone());
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            let bytes_max = u16::try_from(self.bytes_max()).unwrap_or(UDP_BYTES_MAX);
            edns.set_max_payload(bytes_max.min(UDP_BYTES_MAX));
            edns.set_version(0);
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            message.set_edns(edns);
        }
        encode(&message)
    }

    /// Turns the answer of another resolver into ours. `None` if it does not answer what
    /// [`Self::outgoing`] asked under `id`.
    pub fn incoming(&self, id: u16, bytes: &[u8]) -> Option<Incoming> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let answers = header.metadata.message_type == MessageType::Response
            && header.metadata.op_code == OpCode::Query
            && header.metadata.id == id
            && header.counts.queries == 1;
        let query = Query::read(&mut decoder).ok()?;
        let same = query.name() == self.query.name()
            && query.query_type() == self.query.query_type()
            && query.query_class() == self.query.query_class();
        if !answers || !same {
            return None;
        }
        let truncated = header.metadata.truncation;
        let failed = matches!(
            header.metadata.response_code,
            ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp
        );
        if self.bytes_max() < bytes.len() {
            let mut answer = self.begin(header.metadata.response_code, false);
            answer.metadata.truncation = true;
            let bytes = encode(&answer);
            return Some(Incoming {
                bytes,
                truncated: true,
                failed,
            });
        }
        let mut bytes = bytes.to_vec();
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        Some(Incoming {
            bytes,
            truncated,
            failed,
        })
    }
}

/// The answer of another resolver, made ours.
#[derive(Debug)]
pub struct Incoming {
    pub bytes: Vec<u8>,
    /// It was cut off: ask again over TCP if the asker came over TCP.
    pub truncated: bool,
    /// That resolver could not answer: ask the next one.
    pub failed: bool,
}

fn zone_authority(zone: &Zone) -> Record {
    authority(name_of(zone.apex()), zone)
}

/// The record that says how long to believe that a name does not exist (RFC 2308, section 5).
fn authority(owner: Name, zone: &Zone) -> Record {
    const REFRESH_SECONDS: i32 = 60;
    const EXPIRE_SECONDS: i32 = 86_400;
    let server = name_of(zone.apex());
    let keeper = Name::from_ascii("hostmaster")
        .and_then(|name| name.append_domain(&server))
        .unwrap_or_else(|_| server.clone());
    let soa = SOA::new(
        server,
        keeper,
        zone.serial(),
        REFRESH_SECONDS,
        REFRESH_SECONDS,
        EXPIRE_SECONDS,
        TTL_SECONDS,
    );
    Record::from_rdata(owner, TTL_SECONDS, RData::SOA(soa))
}

fn name_of(labels: &[String]) -> Name {
    Name::from_labels(labels.iter().map(String::as_bytes))
        .expect("labels of the zone are DNS labels")
}

/// Reads `4.3.2.1.in-addr.arpa`, or a shorter name for a whole range, as a network.
fn reverse_net(labels: &[String]) -> Option<Ipv4Net> {
    let numbers = labels.strip_suffix(["in-addr".to_owned(), "arpa".to_owned()].as_slice())?;
    let mut octets = [0; 4];
    let mut prefix = 0;
    // Names below that of an address or a range (`lb._dns-sd._udp.…`) belong to it.
    for (octet, label) in octets.iter_mut().zip(numbers.iter().rev()) {
        let Ok(number) = label.parse() else { break };
        *octet = number;
        prefix += 8;
    }
    Ipv4Net::new(Ipv4Addr::from(octets), prefix).ok()
}

fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_else(|_| {
        // Only a message of more than 64 KiB cannot be encoded; none of ours is.
        let code = ResponseCode::ServFail;
        Message::error_msg(message.metadata.id, OpCode::Query, code)
            .to_vec()
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
