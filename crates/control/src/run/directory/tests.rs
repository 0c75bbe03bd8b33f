use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use bastide_client::TaskGroup;
use bastide_pki::x509::pem;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::core::fields::Fields;
use crate::core::outside::unwrapped;
use crate::run::trust::fixture::certificate;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// OpenLDAP's server in a folder of its own.
struct Slapd {
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
    certificate: String,
    _folder: tempfile::TempDir,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ada and two people of one name; two groups by member, one by name. Passwords are plain here.
const PEOPLE: &str = "\
dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n\n\
dn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n\n\
dn: ou=groups,dc=example\nobjectClass: organizationalUnit\nou: groups\n\n\
dn: uid=ada,ou=people,dc=example\nobjectClass: inetOrgPerson\nuid: ada\ncn: Ada Lovelace\n\
sn: Lovelace\nuserPassword: right\n\n\
dn: uid=a\\2Cb,ou=people,dc=example\nobjectClass: inetOrgPerson\nuid: a,b\ncn: twin\nsn: b\n\
userPassword: right\n\n\
dn: uid=twin,ou=people,dc=example\nobjectClass: inetOrgPerson\nuid: twin\ncn: twin\nsn: t\n\
userPassword: right\n\n\
dn: cn=dev,ou=groups,dc=example\nobjectClass: groupOfNames\ncn: dev\n\
member: uid=ada,ou=people,dc=example\n\n\
dn: cn=ops,ou=groups,dc=example\nobjectClass: groupOfNames\ncn: ops\n\
member: uid=twin,ou=people,dc=example\n\n\
dn: cn=posix,ou=groups,dc=example\nobjectClass: posixGroup\ncn: posix\ngidNumber: 7\n\
memberUid: ada\n";

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
    listener.local_addr().unwrap()
}

async fn slapd() -> Option<Slapd> {
    let [slapd, schema] = ["/usr/sbin/slapd", "/etc/ldap/schema/nis.schema"];
    if ![slapd, schema]
        .iter()
        .all(|it| std::path::Path::new(it).exists())
    {
        println!("skipped: slapd is missing");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (key, der) = certificate(LOOPBACK);
    let certificate = pem("CERTIFICATE", &der);
    let key = pem("PRIVATE KEY", key.pkcs8().unwrap().expose());
    std::fs::create_dir(at.join("db")).unwrap();
    let dir = at.display();
    let schemas = ["core", "cosine", "inetorgperson", "nis"]
        .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
        .concat();
    // `bind_anon_dn` lets a bind with a name and no password succeed, as some directories do.
    let configuration = format!(
        "{schemas}allow bind_anon_dn\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         TLSCertificateFile {dir}/cert.pem\nTLSCertificateKeyFile {dir}/key.pem\n\
         database mdb\nmaxsize 10485760\nsuffix dc=example\nrootdn cn=admin,dc=example\n\
         rootpw operator\ndirectory {dir}/db\n\
         access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n"
    );
    for (name, text) in [
        ("cert.pem", certificate.as_str()),
        ("key.pem", &key),
        ("slapd.conf", &configuration),
        ("people.ldif", PEOPLE),
    ] {
        std::fs::write(at.join(name), text).unwrap();
    }
    let added = Command::new("/usr/sbin/slapadd")
        .arg("-f")
        .arg(at.join("slapd.conf"))
        .arg("-l")
        .arg(at.join("people.ldif"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&added.stderr);
    assert!(added.status.success(), "{said}");
    let (plain, tls) = (free_port(), free_port());
    let child = Command::new(slapd)
        .arg("-f")
        .arg(at.join("slapd.conf"))
        .args(["-h", &format!("ldap://{plain} ldaps://{tls}"), "-d", "0"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let slapd = Slapd {
        child,
        plain,
        tls,
        certificate,
        _folder: folder,
    };
    let by = Instant::now() + Duration::from_secs(20);
    for address in [plain, tls] {
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < by, "slapd does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Some(slapd)
}

fn config(fields: Value) -> Config {
    let mut all = json!({
        "userdn": "ou=people,dc=example", "userattr": "uid", "groupdn": "ou=groups,dc=example",
        "request_timeout": 5, "connection_timeout": 5,
    });
    all.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let mut config = Config::default();
    config.update(Fields(all.as_object().unwrap())).unwrap();
    config
}

async fn ask(config: &Config, username: &str, password: Option<&str>) -> Result<Found, String> {
    let question = Directory {
        config: config.clone(),
        username: username.to_owned(),
        password: password.map(|it| Secret::new(it.to_owned())),
    };
    let result = Directories::default()
        .ask(question, &Clock::leading(None))
        .await
        .unwrap();
    unwrapped(&result)
        .map(|found| serde_json::from_slice(found).unwrap())
        .map_err(str::to_owned)
}

fn ada() -> Found {
    Found {
        dn: "uid=ada,ou=people,dc=example".to_owned(),
        alias: "ada".to_owned(),
        groups: vec!["dev".to_owned(), "posix".to_owned()],
    }
}

#[tokio::test]
async fn openldap_says_who_has_which_password_and_which_groups() {
    let Some(slapd) = slapd().await else { return };
    let url = format!("ldap://{}", slapd.plain);
    let direct = config(json!({ "url": url }));
    let operator = config(json!({
        "url": url, "binddn": "cn=admin,dc=example", "bindpass": "operator",
    }));
    let nobody = config(json!({ "url": url, "discoverdn": true, "anonymous_group_search": true }));
    for config in [&direct, &operator, &nobody] {
        assert_eq!(ask(config, "ada", Some("right")).await, Ok(ada()));
        for (name, password) in [
            ("ada", "wrong"),
            ("ada", "operator"),
            ("bob", "right"),
            // The unauthenticated bind, in case it should ever come so far.
            ("ada", ""),
            ("*", "right"),
            ("a*", "right"),
            ("ada)(uid=*", "right"),
            ("ada,ou=people,dc=example", "right"),
        ] {
            let refused = ask(config, name, Some(password)).await;
            assert_eq!(refused.unwrap_err(), WRONG, "{name:?} with {password:?}");
        }
        // A name that needs escaping, and is somebody's.
        let odd = ask(config, "a,b", Some("right")).await.unwrap();
        assert_eq!((odd.alias.as_str(), odd.groups.len()), ("a,b", 0));
    }
    // The server itself would have let in whoever names somebody.
    let server = &direct.servers().unwrap()[0];
    let mut connection = connect(server, &direct, &Clock::leading(None))
        .await
        .unwrap();
    let unauthenticated = Ask::Bind {
        dn: &ada().dn,
        password: "",
    };
    assert_eq!(connection.ask(&unauthenticated).await, Ok(SUCCESS));
    // Of two of one name, neither is meant.
    let by_cn = config(json!({ "url": url, "discoverdn": true, "userattr": "cn" }));
    assert_eq!(ask(&by_cn, "twin", Some("right")).await.unwrap_err(), WRONG);
    let known = ask(&by_cn, "ada lovelace", Some("right")).await.unwrap();
    assert_eq!(
        (known.alias.as_str(), &known.dn),
        ("Ada Lovelace", &ada().dn)
    );
    // About a name alone, with an operator's name.
    assert_eq!(ask(&operator, "ada", None).await, Ok(ada()));
    let wrong = config(json!({ "url": url, "binddn": "cn=admin,dc=example", "bindpass": "no" }));
    let refused = ask(&wrong, "ada", Some("right")).await.unwrap_err();
    assert!(refused.contains("refused `binddn`"), "{refused}");
}

#[tokio::test]
async fn openldap_is_asked_over_tls_only_if_it_is_the_one_that_is_trusted() {
    let Some(slapd) = slapd().await else { return };
    let (_, other) = certificate(LOOPBACK);
    let other = pem("CERTIFICATE", &other);
    for url in [
        format!("ldaps://{}", slapd.tls),
        format!("ldap://{}", slapd.plain),
    ] {
        for version in ["tls12", "tls13"] {
            let secured = |certificate: &str| {
                config(json!({
                    "url": url, "starttls": true, "certificate": certificate,
                    "tls_min_version": version, "tls_max_version": version,
                }))
            };
            let good = ask(&secured(&slapd.certificate), "ada", Some("right")).await;
            assert_eq!(good, Ok(ada()), "{url} by {version}");
            let bad = ask(&secured(&other), "ada", Some("right"))
                .await
                .unwrap_err();
            assert!(bad.contains("no TLS"), "{bad}");
        }
    }
    // One of several servers is enough, and the first that answers is asked.
    let closed = free_port();
    let both = format!("ldap://{closed},ldaps://{}", slapd.tls);
    let both = config(json!({ "url": both, "certificate": slapd.certificate }));
    assert_eq!(ask(&both, "ada", Some("right")).await, Ok(ada()));
}

/// A server that says one thing to whatever it is asked first, and keeps what it was sent.
async fn liar(says: Vec<u8>) -> (SocketAddr, Arc<std::sync::Mutex<Vec<u8>>>, TaskGroup) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    let mut tasks = TaskGroup::new();
    tasks.spawn("liar", async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let mut has_said = false;
            while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
                if !has_said {
                    has_said = true;
                    let _ = socket.write_all(&says).await;
                }
            }
        }
        Ok::<_, std::convert::Infallible>(())
    });
    (address, heard, tasks)
}

#[tokio::test]
async fn what_a_hostile_directory_answers_harms_nothing() {
    let success = [0x30, 0x0c, 2, 1, 1, 0x78, 7, 0x0a, 1, 0, 4, 0, 4, 0];
    let nested = [0x30, 0x84, 0, 0, 0x40, 0].into_iter().cycle().take(0x4006);
    for (says, why) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "no LDAP"),
        (vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "too much"),
        (vec![0x30, 0x80, 0, 0], "no LDAP"),
        // Deeply nested: nothing follows it down.
        (nested.collect(), "no LDAP"),
        // The answer to something else, and a notice of disconnection.
        (
            vec![0x30, 0x0c, 2, 1, 9, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0],
            "something else",
        ),
        (
            vec![0x30, 0x0c, 2, 1, 0, 0x78, 7, 0x0a, 1, 52, 4, 0, 4, 0],
            "something else",
        ),
        // It says nothing at all.
        (Vec::new(), "too long"),
    ] {
        let (address, _, _tasks) = liar(says.clone()).await;
        let config = config(json!({
            "url": format!("ldap://{address}"), "request_timeout": 1, "connection_timeout": 1,
        }));
        let refused = ask(&config, "ada", Some("right")).await.unwrap_err();
        assert!(
            refused.contains(why),
            "{says:?}: {refused} does not say {why}"
        );
    }
    // StartTLS that is refused, or granted with plain text after it: the password stays here.
    let refusal = [0x30, 0x0c, 2, 1, 1, 0x78, 7, 0x0a, 1, 53, 4, 0, 4, 0];
    let injected = [
        &success[..],
        &[0x30, 0x0c, 2, 1, 2, 0x61, 7, 0x0a, 1, 0, 4, 0, 4, 0],
    ]
    .concat();
    for says in [refusal.to_vec(), injected] {
        let (address, heard, _tasks) = liar(says).await;
        let config = config(json!({
            "url": format!("ldap://{address}"), "starttls": true, "connection_timeout": 2,
            "certificate": pem("CERTIFICATE", &certificate(LOOPBACK).1),
        }));
        let refused = ask(&config, "ada", Some("a very secret password")).await;
        assert!(refused.is_err());
        let heard = heard.lock().unwrap().clone();
        assert!(!heard.is_empty());
        let secret = b"a very secret password";
        assert!(!heard.windows(secret.len()).any(|part| part == secret));
    }
}
