#!/bin/sh
# Lets the stock sshd of one host take the certificates of one jitgate realm, or undoes it.
#
#   sh FILE            read what sshd does, decide, install, prove, reload (as root)
#   sh FILE --check    only read and decide
#   sh FILE --remove   undo, byte for byte
#   sh FILE --beside   install beside another CA or principals file, which go on as they are
#
# It needs a POSIX sh, coreutils, sshd and ssh-keygen. It edits no file, it only adds some:
#   /etc/ssh/jitgate/{user_ca.pub,krl,host-cert.pub,principals/LOGIN,manifest}, beside another CA authorized_keys/LOGIN
#   /etc/ssh/sshd_config.d/10-jitgate.conf
# Who logs in by a key or a password today still does. Another CA that stands there already stops it without --beside;
# another RevokedKeys does unless the caller (jitgate agent) has merged that list into --krl FILE: --merged PATH.
#
# Killed at any moment it leaves a sound sshd: each file comes into place whole, by rename; the drop-in comes last and
# goes first; and what a running sshd has read about stays until it is reloaded, because sshd refuses every key while
# the file of RevokedKeys is missing. `manifest` says what is ours; while `manifest.next` stands there a run was not
# finished, and the next one, of either kind, takes it up.
set -eu
LC_ALL=C
export LC_ALL
PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
umask 022
unset CDPATH
nl='
'
tab=$(printf '\t')
white=$(printf '\r\f')
IFS=" $tab$nl"

# @DATA@

mode=install etc=/etc/ssh sshd='' reload='' beside='' krl='' merged='' # as the arguments say
refused=no listeners='' began=no journal=''

# --- words ---

say() { printf '%-8s %s\n' "$1" "$2" 2>/dev/null || :; }

# Text from outside, as it may stand in a terminal.
plain() { printf '%s' "$1" | tr -cd '\12\40-\176'; }

refuse() {
  refused=yes
  printf 'jitgate: error: %s\n' "$1" >&2
  [ -z "${2-}" ] || printf 'jitgate: hint: %s\n' "$2" >&2
}

stop() {
  refuse "$@"
  exit 1
}

usage() {
  refuse "$1" 'sh FILE [--check | --remove] [--beside] [--krl FILE [--merged PATH]] [--etc DIR] [--sshd PATH] [--reload COMMAND]'
  exit 2
}

# has TEXT LINE: is it one of the text's lines?
has() { case "$nl$1$nl" in *"$nl$2$nl"*) return 0 ;; *) return 1 ;; esac; }

# values TEXT WORD: what follows the word, for each line that begins with it.
values() {
  while read -r values_word values_rest; do
    [ "$values_word" != "$2" ] || printf '%s\n' "$values_rest"
  done <<END
$1
END
}

# Of standard input.
checksum() {
  checksum_found=$(sha256sum)
  printf '%s' "${checksum_found%% *}"
}

# --- arguments ---

while [ $# -gt 0 ]; do
  case $1 in
    --check) mode=check ;;
    --remove) mode=remove ;;
    --beside) beside=allowed ;;
    --etc | --sshd | --reload | --krl | --merged)
      [ $# -ge 2 ] && [ -n "$2" ] || usage "$1 needs a value"
      case $1 in --etc) etc=$2 ;; --sshd) sshd=$2 ;; --reload) reload=$2 ;; --krl) krl=$2 ;; --merged) merged=$2 ;; esac
      shift
      ;;
    *) usage "not an option: $(plain "$1")" ;;
  esac
  shift
done
# The path is written into sshd's configuration: nothing that means something there.
case $etc in
  *[!A-Za-z0-9/._-]* | *//* | */ | */../* | */.. | */./* | */.) usage '--etc needs a plain path: A-Z a-z 0-9 / . _ -' ;;
  /?*) ;;
  *) usage '--etc needs an absolute path' ;;
esac
[ -n "$sshd" ] || sshd=$(command -v sshd) || stop 'no sshd found' 'install openssh-server, or name it: --sshd PATH'
case $sshd in /*) ;; *) usage '--sshd needs an absolute path: sshd starts by no other' ;; esac
if [ "$etc" = /etc/ssh ]; then
  [ "$(id -u)" = 0 ] || stop "only root can read and change $etc" 'run it as root'
elif [ -z "$reload" ] && [ "$mode" != check ]; then
  usage '--etc needs --reload COMMAND: which sshd reads that folder is not known'
fi
config=$etc/sshd_config folder=$etc/jitgate dropins=$etc/sshd_config.d dropin=$etc/sshd_config.d/10-jitgate.conf
work=$etc/jitgate.work
[ -z "$krl" ] || [ -s "$krl" ] || usage "there is nothing in $(plain "$krl")"
[ -f "$config" ] || stop "there is no $config"

# --- what sshd does ---

# effective [LOGIN]: in general, or for one login from somewhere. Every criterion that a Match can ask for is given:
# sshd gives no answer otherwise.
effective() {
  if [ $# = 0 ]; then
    "$sshd" -T -f "$config" 2>&1 </dev/null
  else
    "$sshd" -T -f "$config" 2>&1 </dev/null \
      -C "user=$1,host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=${port%%"$nl"*},rdomain="
  fi
}

accepts() { said=$("$sshd" -t -f "$1" 2>&1 </dev/null); }

# Follows Include as sshd does and notes where the settings stand that this is about: `places`, "keyword FILE line N",
# and for RevokedKeys `lists`, "global|match VALUE". `included` says whether our drop-in is read outside of any Match.
scan() {
  places='' lists='' odd_keys='' included=no scan_count=0 scan_queue="global $config"
  while [ -n "$scan_queue" ]; do
    scan_file=${scan_queue%%"$nl"*}
    scan_queue=${scan_queue#"$scan_file"}
    scan_queue=${scan_queue#"$nl"}
    scope=${scan_file%% *}
    scan_file=${scan_file#* }
    [ "$scan_file" != "$dropin" ] || continue # held against its checksum instead
    scan_count=$((scan_count + 1))
    [ "$scan_count" -le 256 ] || stop "more than 256 files are included from $config"
    [ -f "$scan_file" ] && [ -r "$scan_file" ] || stop "cannot read $(plain "$scan_file")"
    scan_line=0
    while IFS= read -r scan_text || [ -n "$scan_text" ]; do
      scan_line=$((scan_line + 1))
      scan_words "$scan_text"
    done <"$scan_file"
  done
}

# One line. sshd takes `=` and quotes around words, too. What only looks like a keyword here refuses; none is missed.
scan_words() {
  scan_raw=$1
  set -f
  IFS=" =\"$tab$white"
  # shellcheck disable=SC2086 # splitting is what is wanted
  set -- $1
  IFS=" $tab$nl"
  set +f
  while [ $# -gt 0 ] && [ -z "$1" ]; do shift; done
  case ${1-} in '' | '#'*) return 0 ;; esac
  scan_keyword=$(printf '%s' "$1" | tr 'A-Z' 'a-z')
  shift
  case $scan_keyword in
    match) scope=match ;;
    authorizedkeysfile) case $scan_raw in *[\"\'\\]*) odd_keys="$scan_file line $scan_line" ;; esac ;;
    include) scan_include "$@" ;;
    trustedusercakeys | revokedkeys | authorizedprincipalsfile | authorizedprincipalscommand | hostcertificate)
      [ "$scan_keyword" != revokedkeys ] || lists="$lists$scope $*$nl"
      places="$places$scan_keyword $scan_file line $scan_line$nl"
      ;;
  esac
}

scan_include() {
  case $scan_raw in
    *[\"\'\\~$%]*) stop "cannot follow the Include in $(plain "$scan_file") line $scan_line" 'write it as a plain path' ;;
  esac
  for scan_pattern in "$@"; do
    case $scan_pattern in '#'*) return 0 ;; '') continue ;; /*) ;; *) scan_pattern=/etc/ssh/$scan_pattern ;; esac
    if [ "$scope" = global ] && [ "${scan_pattern%/*}" = "$dropins" ]; then
      # shellcheck disable=SC2254 # the pattern is what is asked
      case ${dropin##*/} in ${scan_pattern##*/}) included=yes ;; esac
    fi
    IFS=''
    # shellcheck disable=SC2086 # file names are what is wanted
    for scan_found in $scan_pattern; do
      [ ! -e "$scan_found" ] || scan_queue="$scope $scan_found$nl$scan_queue"
    done
    IFS=" $tab$nl"
  done
}

# Does root run it, and is it an sshd? A command line is what its process says of itself, and any user's may call itself
# sshd. What no user can have is a process whose real user is root, from a file called sshd that is not setuid: by a
# setuid program one has root's rights (then /proc/PID is root's as well), but the real user stays, and where it does not
# (sudo, while it asks for a password) the file is another one, or a link to it that the user named sshd.
# It need not be the file that we ask: that one may be a wrapper. After an upgrade it is "... (deleted)".
is_roots_sshd() {
  user=''
  { while read -r word rest; do [ "$word" != Uid: ] || user=${rest%%[!0-9]*}; done <"$1/status"; } 2>/dev/null || return 1
  [ "$user" = 0 ] || return 1
  program=$(readlink "$1/exe") || return 1 # has ended, or the kernel's own
  program=${program%' (deleted)'}
  case ${program##*/} in *sshd) [ ! -u "$1/exe" ] ;; *) return 1 ;; esac
}

# The sshd that listens may have been started with settings that no file shows.
check_listeners() {
  [ "$etc" = /etc/ssh ] || return 0
  for entry in /proc/[0-9]*; do
    is_roots_sshd "$entry" || continue
    title=$({ tr '\000' ' ' <"$entry/cmdline"; } 2>/dev/null) || continue
    case $title in *sshd:*'[listener]'*) ;; *) continue ;; esac
    [ "$(readlink "$entry/ns/pid")" = "$(readlink /proc/self/ns/pid)" ] || continue # a container's
    case $title in
      *" -f $config "*) ;;
      *' -f'*) continue ;; # reads another configuration
    esac
    listeners="$listeners${entry##*/} "
    case $(printf '%s' "$title" | tr 'A-Z' 'a-z') in
      *trustedusercakeys* | *revokedkeys* | *authorizedprincipals* | *hostcertificate* | *pubkeyauthentication*)
        [ "$mode" = remove ] || refuse "sshd was started with settings of its own: $(plain "$title")" \
          'move them into its configuration files first'
        ;;
    esac
  done
}

# --- what is ours ---

content() {
  case $1 in
    jitgate/manifest.next) printf '%s\n' "$plan" ;;
    jitgate/user_ca.pub) printf '%s\n' "$user_ca" ;;
    jitgate/host-cert.pub) printf '%s\n' "$host_cert" ;;
    jitgate/principals/*) for scope in $scopes; do printf '%s@%s\n' "${1##*/}" "$scope"; done ;;
    jitgate/authorized_keys/*) # sshd(8): a key that is an authority for these principals
      content_names=''
      for scope in $scopes; do content_names="$content_names${content_names:+,}${1##*/}@$scope"; done
      printf '%s\n' "$user_ca" | while read -r line; do
        printf 'cert-authority,principals="%s" %s\n' "$content_names" "$line"
      done
      ;;
    jitgate/krl) # PROTOCOL.krl: magic, format 1; version, date, flags, reserved and comment are empty: nothing revoked
      if [ -n "$krl" ]; then cat "$krl" && return; fi
      printf 'SSHKRL\n\000\000\000\000\001'
      printf '\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000'
      printf '\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000'
      ;;
    sshd_config.d/*) printf '# Made by jitgate, which knows it by its checksum: do not edit.\n%s\n' "$settings" ;;
  esac
}

# Sets `known`, all that the manifests say, and refuses what stands in our places but is not ours.
check_own_files() {
  known=''
  if [ -L "$folder" ] || { [ -e "$folder" ] && [ ! -d "$folder" ]; }; then
    stop "$folder is not a folder" 'move it away'
  fi
  for path in "$folder/manifest" "$folder/manifest.next"; do
    [ ! -f "$path" ] || known=$known$(cat "$path")$nl
  done
  choose_settings
  for path in "$folder"/* "$folder"/.[!.]* "$folder"/principals/* "$folder"/principals/.[!.]* \
    "$folder"/authorized_keys/* "$folder"/authorized_keys/.[!.]* "$dropin"; do
    if [ -e "$path" ] || [ -L "$path" ]; then
      is_ours "$path" || refuse "$(plain "$path") is not as jitgate made it" 'move it away, or put it back as it was'
    fi
  done
  for line in "realm $realm" "host $host"; do
    found=$(values "$known" "${line%% *}")
    [ -z "$found" ] || has "$found" "${line#* }" ||
      refuse "this host trusts another ${line%% *} already: $(plain "$found")" 'undo that first: --remove'
  done
}

# Sets `settings`, what the drop-in says, and `kept`: not empty beside another set-up, whose CA and principals files then
# are not ours to say. There our CA is one key more in AuthorizedKeysFile, good for our principals only; `kept` is what
# that setting was before us. Once beside, always beside, until --remove.
choose_settings() {
  kept=$(values "$known" keys) absent='AuthorizedPrincipalsCommand none'
  kept=${kept%%"$nl"*}
  if [ -z "$kept" ] && [ "$beside" = allowed ] && [ "$mode" != remove ]; then
    for keyword in trustedusercakeys authorizedprincipalsfile authorizedprincipalscommand; do
      [ -z "$(values "$places" "$keyword")" ] || kept=$(values "$before" authorizedkeysfile)
    done
  fi
  case $kept in
    *[!A-Za-z0-9/._%\ -]*) stop "AuthorizedKeysFile cannot be kept beside ours: $(plain "$kept")" 'write it as plain paths' ;;
  esac
  [ -z "$kept" ] || [ -z "${odd_keys-}" ] ||
    stop "AuthorizedKeysFile cannot be kept beside ours: $(plain "$odd_keys")" 'write it as plain paths'
  settings="TrustedUserCAKeys $folder/user_ca.pub
AuthorizedPrincipalsFile $folder/principals/%u"
  if [ -n "$kept" ]; then
    absent=''
    settings="AuthorizedKeysFile $kept $folder/authorized_keys/%u"
    [ "$kept" != none ] || settings="AuthorizedKeysFile $folder/authorized_keys/%u"
  fi
  settings="$settings
RevokedKeys $folder/krl
HostCertificate $folder/host-cert.pub"
}

is_ours() {
  [ ! -L "$1" ] || return 1
  case ${1#"$etc"/} in
    jitgate/principals | jitgate/authorized_keys) [ -d "$1" ] ;;
    jitgate/manifest | jitgate/manifest.next | jitgate/krl) [ -f "$1" ] && [ -n "$known" ] ;;
    *)
      [ -f "$1" ] || return 1
      # The drop-in by itself, as we make it: somebody took the folder away, and sshd refuses every key. To be mended.
      has "$known" "file $(checksum <"$1") ${1#"$etc"/}" || [ "$(cat "$1")" = "$(content "${1#"$etc"/}")" ]
      ;;
  esac
}

# --- reading and deciding ---

read_sshd() {
  accepts "$config" || stop "sshd does not accept its configuration as it is: $(plain "$said")" 'mend that first'
  before=$(effective) || stop "sshd does not say what it does: $(plain "$before")"
  port=$(values "$before" port)
  scan
  say read "$config, included files: $((scan_count - 1)); sshd -T; sshd -T -C for $logins"
}

decide() {
  [ "$included" = yes ] || refuse "$config does not include $dropins/*.conf outside of Match" \
    "make this its first line: Include $dropins/*.conf"
  for keyword in trustedusercakeys authorizedprincipalsfile authorizedprincipalscommand revokedkeys; do
    place=$(values "$places" "$keyword")
    found=$(values "$before" "$keyword")
    case $keyword:$kept in
      revokedkeys:*) ! is_merged || continue ;;
      *:?*) continue ;;
    esac
    if [ -n "$place" ]; then
      case $keyword in
        revokedkeys) hint='take that list out first, or have both merged: jitgate agent join' ;;
        *) hint='take the other set-up out first, or put this one beside it: --beside' ;;
      esac
      refuse "$keyword is set already: $(plain "$place")" "$hint"
    elif [ "$found" != none ] && [ "${found#"$folder"/}" = "$found" ]; then
      refuse "$keyword is set already, but by none of the files: $(plain "$found")"
    fi
  done
  decide_host_key
  for login in $logins; do decide_login "$login"; done
  [ "$host_cert_ends" -gt "$(date +%s)" ] ||
    refuse "the host certificate in this trust file has ended: $host_cert_until" 'have a new one made on the server'
  [ "$refused" = no ] || return 0
  if [ -n "$kept" ]; then
    say decided "beside another set-up, which goes on: AuthorizedKeysFile $kept and ours"
  else
    say decided 'nothing is in the way: no other CA, principals, revoked keys or host certificate'
  fi
  later=''
  [ -n "$krl" ] || later=': have a newer trust file by then' # with --krl an agent sees to it
  [ -z "$lists" ] || say decided "RevokedKeys is ours, with what is in $merged merged into it"
  say note "the host certificate is good until $host_cert_until$later"
}

# Is each other RevokedKeys the very list that the caller has merged, for everybody?
is_merged() {
  [ -n "$merged" ] && [ -n "$lists" ] || return 1
  while read -r line; do
    case $line in '' | "global $merged") ;; *) return 1 ;; esac
  done <<END
$lists
END
}

decide_host_key() {
  own=no
  while read -r path; do
    public=$(ssh-keygen -y -P '' -f "$path" 2>/dev/null </dev/null) || public=$(cat "$path.pub" 2>/dev/null) || continue
    case "$public " in "$host_key "*) own=yes ;; esac
  done <<END
$(values "$before" hostkey)
END
  [ "$own" = yes ] || refuse "the host key in this trust file is none of this host's: $host_key_print" \
    'is this the host that it was made for?'
  while read -r path; do
    [ -n "$path" ] && [ "$path" != "$folder/host-cert.pub" ] || continue
    print=$(ssh-keygen -l -E sha256 -f "$path" 2>&1 </dev/null) || print="$host_key_print, perhaps"
    case $print in
      *"$host_key_print"*)
        refuse "the host key has a certificate already: $(plain "$(values "$places" hostcertificate)")" \
          "take that HostCertificate out first: $(plain "$path")"
        ;;
    esac
  done <<END
$(values "$before" hostcertificate)
END
}

decide_login() {
  now=$(effective "$1") || stop "sshd does not say what it does for $1: $(plain "$now")"
  has "$now" 'pubkeyauthentication yes' || refuse "PubkeyAuthentication is off for $1" \
    'a certificate is a kind of key: switch it on, or leave this login out'
  for kind in $ca_signatures; do
    case ,$(values "$now" casignaturealgorithms), in
      *",$kind,"*) ;;
      *) refuse "sshd takes no certificate that is signed by $kind for $1" "add $kind to CASignatureAlgorithms" ;;
    esac
  done
  if [ -n "$kept" ]; then
    found=$(values "$now" authorizedkeysfile)
    case $found in
      "$kept" | "$kept $folder/authorized_keys/%u" | "$folder/authorized_keys/%u") ;;
      *) refuse "AuthorizedKeysFile is another one for $1: $(plain "$found")" 'a Match sets it, and ours cannot stand beside that' ;;
    esac
  fi
  id -u "$1" >/dev/null 2>&1 || say note "$1: no such login on this host yet"
  while read -r word rest; do
    case $word in
      forcecommand) [ "$rest" = none ] || say note "$1: outranks a certificate's own: ForceCommand $(plain "$rest")" ;;
      authenticationmethods) [ "$rest" = any ] || say note "$1: AuthenticationMethods $(plain "$rest")" ;;
      allowusers | denyusers | allowgroups | denygroups) say note "$1: $word $(plain "$rest")" ;;
    esac
  done <<END
$now
END
}

choose_reload() {
  how=$reload
  [ -z "$how" ] && [ "$etc" = /etc/ssh ] || return 0
  if [ -d /run/systemd/system ]; then
    for unit in ssh.service sshd.service; do
      ! systemctl is-active --quiet "$unit" || how="systemctl reload $unit"
      [ -z "$how" ] || return 0
    done
  fi
  pid=$({ cat "$(values "$before" pidfile)"; } 2>/dev/null) || pid=''
  case " $listeners" in
    ' ') [ -d /proc/self ] || refuse 'without /proc it is not known whether sshd runs' 'give --reload COMMAND' ;;
    *" ${pid:-none} "*) how="kill -HUP $pid" ;;
    *) refuse "sshd runs, process $listeners, but neither by systemd nor with a pid file" 'give --reload COMMAND' ;;
  esac
}

# Sets `plan`, the manifest of what has to stand there, and what is missing for it: `changes` and `stale`.
compare() {
  wanted='jitgate/krl jitgate/user_ca.pub jitgate/host-cert.pub'
  for login in $logins; do wanted="$wanted jitgate/principals/$login${kept:+ jitgate/authorized_keys/$login}"; done
  wanted="$wanted sshd_config.d/10-jitgate.conf" changes='' stale='' complete=no
  plan="jitgate-trust 1${nl}realm $realm${nl}host $host${kept:+${nl}keys $kept}"
  if [ ! -d "$dropins" ] || has "$known" 'made sshd_config.d'; then plan="$plan${nl}made sshd_config.d"; fi
  for name in $wanted; do
    if [ "$name" = jitgate/krl ]; then
      [ -s "$etc/$name" ] || changes="$changes $name" # what is revoked stays revoked
      continue
    fi
    want=$(content "$name" | checksum)
    plan="$plan${nl}file $want $name"
    [ -f "$etc/$name" ] && [ "$(checksum <"$etc/$name")" = "$want" ] || changes="$changes $name"
  done
  for path in "$folder"/principals/* "$folder"/authorized_keys/*; do
    case " $wanted " in *" ${path#"$etc"/} "*) ;; *) [ ! -f "$path" ] || stale="$stale ${path#"$etc"/}" ;; esac
  done
  if [ -f "$folder/manifest" ] && [ ! -e "$folder/manifest.next" ]; then complete=yes; fi
}
