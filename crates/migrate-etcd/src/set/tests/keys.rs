//! Private keys that belong to what is beside them, and those that do not.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SignatureAlgorithm};

use super::*;

/// A key, its certificate, and its public half, as PEM.
struct Pair {
    certificate: String,
    private: String,
    public: String,
    /// The id that a key set has for it.
    kid: String,
}

fn pair(kind: &'static SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(kind).unwrap();
    let der = key.subject_public_key_info();
    Pair {
        certificate: CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem(),
        private: key.serialize_pem(),
        public: key.public_key_pem(),
        kid: URL_SAFE_NO_PAD.encode(Sha256::digest(der)),
    }
}

/// The same private key as Go writes it: `EC PRIVATE KEY`, which is within PKCS #8, and with
/// the name of the curve.
fn as_go_writes_it(private: &str) -> String {
    let body: String = private
        .lines()
        .filter(|line| !line.contains("--"))
        .collect();
    let der = STANDARD.decode(body).unwrap();
    let version = der.windows(4).position(|it| it == [2, 1, 1, 4]).unwrap();
    let names: [&[u8]; 2] = [
        b"\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07",
        b"\x06\x05\x2B\x81\x04\x00\x22",
    ];
    let has = |name: &&&[u8]| der.windows(name.len()).any(|it| it == **name);
    let curve = tlv(0xA0, &[names.iter().find(has).unwrap()]);
    let (number, public) = der[version..].split_at(5 + usize::from(der[version + 4]));
    pem("EC PRIVATE KEY", &tlv(0x30, &[number, &curve, public]))
}

#[tokio::test]
async fn keys_of_elliptic_curves_have_to_be_halves_too() {
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ];
    for kind in kinds {
        let (ca, sa, other) = (pair(kind), pair(kind), pair(kind));
        let jwks = format!(r#"{{"keys":[{{"kid":"{}"}}]}}"#, sa.kid);
        let live = LiveKeys::parse(&ca.certificate, &jwks).unwrap();
        let taken = async |ca_key: &str, sa_key: &str| {
            let world = world();
            for (file, text) in [
                ("ca.crt", ca.certificate.as_str()),
                ("ca.key", ca_key),
                ("sa.pub", &sa.public),
                ("sa.key", sa_key),
            ] {
                world.put(&format!("etc/kubernetes/pki/{file}"), text);
            }
            let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
            let (_, record) = world.write(set).await.unwrap();
            record.refuse_other_keys(&live).map_err(|it| it.to_string())
        };
        taken(&ca.private, &sa.private).await.unwrap();
        if *kind != rcgen::PKCS_ED25519 {
            let [ca, sa] = [&ca, &sa].map(|key| as_go_writes_it(&key.private));
            taken(&ca, &sa).await.unwrap();
            let wrong = as_go_writes_it(&other.private);
            let said = taken(&wrong, &sa).await.unwrap_err();
            assert!(said.contains("its pki/ca.key belongs to none"), "{said}");
        }
        for wrong in [&other.private, &sa.private, SA_KEY] {
            let said = taken(wrong, &sa.private).await.unwrap_err();
            assert!(said.contains("its pki/ca.key belongs to none"), "{said}");
        }
        let said = taken(&ca.private, &other.private).await.unwrap_err();
        assert!(said.contains("its pki/sa.key belongs to no key"), "{said}");
    }
}

/// A part of DER: its tag, its length, its content.
fn tlv(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let len = content.len();
    let mut der = vec![tag];
    match u8::try_from(len) {
        Ok(short @ 0..=0x7F) => der.push(short),
        _ => der.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    der.extend(content);
    der
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A public key as its file and certificate have it.
fn public(algorithm: &[u8], key: &[u8]) -> [String; 2] {
    let whole = tlv(0x30, &[&tlv(0x30, &[algorithm]), &tlv(3, &[&[0], key])]);
    let none = tlv(0x30, &[]);
    let version = tlv(0xA0, &[&[2, 1, 2]]);
    let signed: [&[u8]; 7] = [&version, &[2, 1, 1], &none, &none, &none, &none, &whole];
    let certificate = tlv(0x30, &[&tlv(0x30, &signed), &none, &[3, 1, 0]]);
    [pem("PUBLIC KEY", &whole), pem("CERTIFICATE", &certificate)]
}

/// An RSA key of so many bytes that nobody can do anything with: its private half, its public
/// one, and a certificate.
fn rsa(modulus: &[u8], exponent: &[u8]) -> [String; 3] {
    let (modulus, exponent) = (tlv(2, &[modulus]), tlv(2, &[exponent]));
    let private = tlv(0x30, &[&[2, 1, 0], &modulus, &exponent, &[2, 1, 5]]);
    let name = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01\x05\x00";
    let [key, certificate] = public(name, &tlv(0x30, &[&modulus, &exponent]));
    [pem("RSA PRIVATE KEY", &private), key, certificate]
}

/// What is said of a set with these keys, where the cluster has the public ones.
async fn doubts(
    ca: (&str, Option<&str>),
    sa: (&str, Option<&str>),
) -> Result<(Vec<(String, PrivateKey)>, bool), String> {
    let world = world();
    let pki = world.folder.path().join("root/etc/kubernetes/pki");
    for (file, text) in [
        ("ca.crt", Some(ca.0)),
        ("ca.key", ca.1),
        ("sa.pub", Some(sa.0)),
        ("sa.key", sa.1),
    ] {
        match text {
            Some(text) => fs::write(pki.join(file), text).unwrap(),
            None => fs::remove_file(pki.join(file)).unwrap(),
        }
    }
    let der: String = sa.0.lines().filter(|line| !line.contains("--")).collect();
    let der = STANDARD.decode(der).unwrap();
    let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
    let live = LiveKeys::parse(ca.0, &format!(r#"{{"keys":[{{"kid":"{kid}"}}]}}"#)).unwrap();
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let set = set.with_live_keys(live);
    let (_, record) = world.write(set).await.map_err(|it| it.to_string())?;
    let doubts = record.keys_in_doubt().into_iter();
    let doubts = doubts.map(|doubt| {
        assert_eq!((doubt.nodes, doubt.elsewhere), (vec!["cp-1".into()], false));
        (doubt.file, doubt.key)
    });
    Ok((doubts.collect(), record.signs_tokens()))
}

/// As with an external CA, whose key no node has.
#[tokio::test]
async fn a_private_key_that_is_not_there_is_told_and_the_set_is_made() {
    let doubt = |file: &str| (file.to_owned(), PrivateKey::Absent);
    for ca_key in [None, Some("gone")] {
        let told = doubts((CA, ca_key), (SA, Some(SA_KEY))).await;
        assert_eq!(told.unwrap(), (vec![doubt("ca.key")], true));
    }
    let told = doubts((CA, Some(CA_KEY)), (SA, None)).await;
    assert_eq!(told.unwrap(), (vec![doubt("sa.key")], false));
    let both = vec![doubt("ca.key"), doubt("sa.key")];
    assert_eq!(doubts((CA, None), (SA, None)).await.unwrap(), (both, false));
    assert_eq!(
        doubts((CA, Some(CA_KEY)), (SA, Some(SA_KEY))).await,
        Ok((Vec::new(), true))
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_compared_is_told_and_only_another_one_is_refused() {
    let doubt = |file: &str| (file.to_owned(), PrivateKey::NotCompared);
    // Longer than 4,096 bits, or of an exponent that is less than 65,537.
    for (len, exponent) in [(1024, &[1, 0, 1][..]), (256, &[3])] {
        let numbers = |byte: u8| [&[0][..], &vec![byte; len]].concat();
        let [private, key, certificate] = rsa(&numbers(0xA1), exponent);
        let [other, ..] = rsa(&numbers(0xA3), exponent);
        let told = doubts((&certificate, Some(&private)), (&key, Some(&private))).await;
        let both = vec![doubt("ca.key"), doubt("sa.key")];
        assert_eq!(told.unwrap(), (both, true));
        for (ca, sa, file) in [(&other, &private, "ca.key"), (&private, &other, "sa.key")] {
            let said = doubts((&certificate, Some(ca)), (&key, Some(sa))).await;
            let said = said.unwrap_err();
            assert!(said.contains(&format!("{file} belongs to no")), "{said}");
        }
    }
    // A point of which one coordinate is told, and one with a passphrase.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let name = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07";
    let compressed = [&[2], &key.der_bytes()[1..33]].concat();
    let [_, certificate] = public(name, &compressed);
    let locked = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    let private = key.serialize_pem();
    for (ca, key) in [
        (certificate.as_str(), private.as_str()),
        (&certificate, &as_go_writes_it(&private)),
        (CA, locked),
        (CA, &locked.replace("RSA PRIVATE", "ENCRYPTED PRIVATE")),
        (
            CA,
            "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        ),
    ] {
        let told = doubts((ca, Some(key)), (SA, Some(SA_KEY))).await;
        assert_eq!(told.unwrap(), (vec![doubt("ca.key")], true), "{key}");
    }
    // Of another kind it is another, whatever it is.
    let said = doubts((&certificate, Some(CA_KEY)), (SA, Some(SA_KEY))).await;
    assert!(said.unwrap_err().contains("ca.key belongs to none"));
}

#[tokio::test]
async fn a_key_that_another_node_has_is_told_as_such() {
    let world = world();
    let root = world.folder.path().join("second");
    let pki = root.join("etc/kubernetes/pki");
    fs::create_dir_all(&pki).unwrap();
    fs::write(pki.join("ca.crt"), CA).unwrap();
    fs::write(pki.join("sa.pub"), SA).unwrap();
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let set = set.with_node(Arc::new(FolderNode::new("cp-2", root)));
    let (_, record) = world.write(set.with_live_keys(live())).await.unwrap();
    assert!(record.signs_tokens());
    let doubts = record.keys_in_doubt().into_iter();
    let doubts = doubts.map(|it| (it.file, it.key, it.nodes, it.elsewhere));
    let told = |file: &str| {
        (
            file.to_owned(),
            PrivateKey::Absent,
            vec!["cp-2".to_owned()],
            true,
        )
    };
    assert_eq!(doubts.collect::<Vec<_>>(), ["ca.key", "sa.key"].map(told));
}

/// With the same key: what it has signed is trusted as before.
#[tokio::test]
async fn a_ca_that_was_renewed_is_the_same_and_records_of_before_are_read() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = |year| {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap()
    };
    let (old, new) = (certificate(2030), certificate(2040));
    assert_ne!(old.pem(), new.pem());
    let world = world();
    world.put("etc/kubernetes/pki/ca.crt", &old.pem());
    world.put("etc/kubernetes/pki/ca.key", &key.serialize_pem());
    let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
    let (_, mut record) = world.write(set).await.unwrap();
    let jwks = format!(r#"{{"keys":[{{"kid":"{KID}"}}]}}"#);
    for live in [new.pem(), [CA, &new.pem()].concat()] {
        let live = LiveKeys::parse(&live, &jwks).unwrap();
        record.refuse_other_keys(&live).unwrap();
        assert!(record.keys_in_doubt().is_empty());
    }
    // They had the fingerprint of the certificate.
    record.nodes[0].keys.ca = vec![hex(Sha256::digest(old.der()))];
    let mut json = serde_json::to_value(&record).unwrap();
    for (there, is_there) in [(true, PrivateKey::There), (false, PrivateKey::Absent)] {
        json["nodes"][0]["keys"]["caKey"] = there.into();
        json["nodes"][0]["keys"]["serviceAccountKey"] = there.into();
        let read: SetRecord = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read.nodes[0].keys.ca_key, is_there);
        let live = |ca: String| LiveKeys::parse(&ca, &jwks).unwrap();
        read.refuse_other_keys(&live(old.pem())).unwrap();
        read.refuse_other_keys(&live(new.pem())).unwrap_err();
    }
}

/// While a CA is being changed, `ca.crt` and what the cluster trusts have two certificates.
#[tokio::test]
async fn of_two_certificates_the_set_has_the_key_of_one_that_the_cluster_trusts() {
    let [old, new, stray] = [(); 3].map(|()| pair(&rcgen::PKCS_ECDSA_P256_SHA256));
    let both = |one: &Pair, other: &Pair| [&*one.certificate, &other.certificate].concat();
    let live =
        |ca: &str| LiveKeys::parse(ca, &format!(r#"{{"keys":[{{"kid":"{KID}"}}]}}"#)).unwrap();
    let taken = async |ca: &str, key: &Pair| {
        let world = world();
        world.put("etc/kubernetes/pki/ca.crt", ca);
        world.put("etc/kubernetes/pki/ca.key", &key.private);
        // Two that sign tokens: the key is that of the second.
        world.put("etc/kubernetes/pki/sa.pub", &[&*stray.public, SA].concat());
        let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
        world.write(set).await.unwrap().1
    };
    let trusted = live(&both(&old, &new));
    for key in [&old, &new] {
        let record = taken(&both(&old, &new), key).await;
        record.refuse_other_keys(&trusted).unwrap();
    }
    let refused = |record: &SetRecord, live: &LiveKeys| {
        let error = record.refuse_other_keys(live).unwrap_err();
        assert!(matches!(error, Error::OtherKeys { .. }), "{error}");
        error.to_string()
    };
    // In both files a certificate is the cluster's; the key is that of another one.
    let record = taken(&both(&new, &stray), &stray).await;
    let said = refused(&record, &trusted);
    assert!(said.contains("that is not the cluster's"), "{said}");
    let record = taken(&both(&old, &new), &old).await;
    let said = refused(&record, &live(&new.certificate));
    assert!(said.contains("that is not the cluster's"), "{said}");
    let record = taken(&both(&old, &new), &stray).await;
    let said = refused(&record, &trusted);
    assert!(said.contains("ca.key belongs to none"), "{said}");
}

/// A program that signs for the API servers calls its keys as it likes.
#[tokio::test]
async fn keys_that_are_called_by_no_fingerprint_are_compared_by_their_numbers() {
    let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwks = |fields: &str| format!(r#"{{"keys":[{{"kid":"external-1",{fields}}}]}}"#);
    let refused = async |public: &str, private: &str, jwks: &str| {
        let world = world();
        world.put("etc/kubernetes/pki/sa.pub", public);
        world.put("etc/kubernetes/pki/sa.key", private);
        let live = LiveKeys::parse(CA, jwks).unwrap();
        let set = BackupSet::new(world.snapshot.clone()).with_node(world.node("cp-1"));
        let (_, record) = world.write(set).await.unwrap();
        let doubt = record.signers_in_doubt(&live);
        let doubt = doubt.map(|it| (it.file, it.key, it.nodes, it.elsewhere));
        (record.refuse_other_keys(&live).is_err(), doubt)
    };
    let curves = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256", 32),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384", 48),
    ];
    for (kind, crv, len) in curves {
        let key = KeyPair::generate_for(kind).unwrap();
        let (x, y) = key.der_bytes()[1..].split_at(len);
        let (x, y) = (number(x), number(y));
        let told = jwks(&format!(r#""kty":"EC","crv":"{crv}","x":"{x}","y":"{y}""#));
        let (public, private) = (key.public_key_pem(), key.serialize_pem());
        assert_eq!(refused(&public, &private, &told).await, (false, None));
        assert_eq!(refused(SA, SA_KEY, &told).await, (true, None));
    }
    // Of the key of the tests, whose numbers are in it: 2,048 bits.
    let der: String = SA.lines().filter(|line| !line.contains("--")).collect();
    let der = STANDARD.decode(der).unwrap();
    let (n, e) = der[der.len() - 261..].split_at(256);
    let (n, e) = (number(n), number(&e[2..]));
    let told = jwks(&format!(r#""kty":"RSA","n":"{n}","e":"{e}""#));
    assert_eq!(refused(SA, SA_KEY, &told).await, (false, None));
    let other = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let refused_other = refused(&other.public, &other.private, &told).await;
    assert_eq!(refused_other, (true, None));
    // Of which nobody can tell which they are.
    let doubt = (
        "sa.pub".to_owned(),
        PrivateKey::NotCompared,
        vec!["cp-1".to_owned()],
        false,
    );
    for fields in [
        r#""kty":"RSA""#,
        r#""kty":"OKP","crv":"Ed25519","x":"AA""#,
        r#""kty":"EC","crv":"P-256","x":"AA","y":"AA""#,
    ] {
        let told = refused(SA, SA_KEY, &jwks(fields)).await;
        assert_eq!(told, (false, Some(doubt.clone())), "{fields}");
    }
    // One that is known is that, whatever is beside it.
    let both = format!(r#"{{"keys":[{{"kid":"other"}},{{"kid":"{KID}"}}]}}"#);
    assert_eq!(refused(SA, SA_KEY, &both).await, (false, None));
}
