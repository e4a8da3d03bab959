# A site's keys for Secure Boot, and the three variables that make a firmware trust them and nothing else: each key signs the
# next one's variable. Runs in the tools tree, in memory; writes an archive.
# $1: name of the site; $2: UUID of the variables' owner
cd /tmp
for name in PK KEK db; do
    openssl req -new -x509 -newkey rsa:2048 -noenc -sha256 -days 36500 -subj "/CN=$1 Secure Boot $name" \
        -keyout "$name.key" -out "$name.pem"
    openssl x509 -in "$name.pem" -outform DER -out "$name.der"
    cert-to-efi-sig-list -g "$2" "$name.pem" "$name.esl"
done
sign() { sign-efi-sig-list -g "$2" -k "$1.key" -c "$1.pem" "$3" "$3.esl" "$3.auth" >&2; }
sign PK "$2" PK
sign PK "$2" KEK
sign KEK "$2" db
tar -c PK.key KEK.key db.key PK.der KEK.der db.der PK.auth KEK.auth db.auth PK.pem KEK.pem db.pem
