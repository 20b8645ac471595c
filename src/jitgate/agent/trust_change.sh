# The second part of trust.sh: all that changes something, and the runs.

# --- changing ---

flush() { sync "$@" 2>/dev/null || sync; }

begin() {
  if ! mkdir "$work" 2>/dev/null; then
    other=$(cat "$work/pid" 2>/dev/null) || other=''
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
      stop "another run is at work, process $(plain "$other")" "if that is something else, remove $work"
    fi
    rm -rf "$work" # of a run that was killed
    mkdir "$work" || stop "cannot write in $etc"
  fi
  began=yes
  printf '%s\n' "$$" >"$work/pid"
  mkdir "$work/old" "$work/old/jitgate" "$work/old/jitgate/principals" "$work/old/jitgate/authorized_keys" \
    "$work/old/sshd_config.d"
}

# `journal` is what a failure has to put back, the latest first; `$work/old` keeps what was there.
note_old() {
  # A second name for it: needs no right to give files away, and puts back the very file.
  if [ -f "$etc/$1" ]; then ln "$etc/$1" "$work/old/$1" 2>/dev/null || cp -p "$etc/$1" "$work/old/$1"; fi
  journal="$1 $journal"
}

put_folder() {
  [ ! -d "$etc/$1" ] || return 0
  journal="$1/ $journal"
  mkdir "$etc/$1"
}

# The file comes into place whole, or not at all.
put() {
  content "$1" >"$work/file"
  chmod 644 "$work/file"
  flush "$work/file"
  note_old "$1"
  mv -f "$work/file" "$etc/$1"
  [ "$1" = jitgate/manifest.next ] || say install "$etc/$1"
}

take() {
  note_old "$1"
  rm -f "$etc/$1"
  say remove "$etc/$1"
}

install() {
  put_folder jitgate
  put jitgate/manifest.next
  put_folder jitgate/principals
  [ -z "$kept" ] || put_folder jitgate/authorized_keys
  for name in $stale; do take "$name"; done
  for name in $changes; do
    case $name in
      jitgate/krl)
        put "$name"
        # With the drop-in there already, its absence locked everybody out: that is not to come back.
        [ ! -f "$dropin" ] || journal=${journal#* }
        ;;
      jitgate/*) put "$name" ;;
    esac
  done
  put_folder sshd_config.d
  case $changes in
    *sshd_config.d/*)
      # First beside the rest, where a mistake hurts nobody.
      printf '%s\n' "$settings" >"$work/settings"
      printf 'Include %s\n' "$work/settings" "$config" >"$work/try"
      accepts "$work/try" || stop "sshd does not accept the settings: $(plain "$said")"
      put sshd_config.d/10-jitgate.conf
      ;;
  esac
  flush "$etc" "$dropins" "$folder" "$folder/principals" ${kept:+"$folder/authorized_keys"}
  prove
  journal='' # sshd may read it from here on, and what it reads has to stay
  reload_sshd || stop "sshd was not reloaded: $(plain "$said")" \
    'all is in place and sound, but not in use yet: reload sshd and run this again, or undo it by --remove'
  mv -f "$folder/manifest.next" "$folder/manifest"
}

# Nothing is believed before sshd itself says so.
prove() {
  accepts "$config" || stop "sshd does not accept its configuration with $dropin: $(plain "$said")"
  prove_one 'in general'
  for login in $logins; do prove_one "for $login" "$login"; done
  say proved "sshd -t; sshd -T and -T -C: in force for $logins"
}

prove_one() {
  whom=$1
  shift
  now=$(effective "$@") || stop "sshd does not say what it does $whom: $(plain "$now")"
  while read -r word rest; do
    [ -z "$word" ] || has "$now" "$(printf '%s' "$word" | tr 'A-Z' 'a-z') $rest" ||
      stop "not in force $whom: $word $rest" "something that $config says comes before it"
  done <<END
$settings
$absent
END
}

reload_sshd() {
  said=''
  if [ -z "$how" ]; then
    say reload 'no sshd is running: the next one reads it'
    return 0
  fi
  said=$(sh -c "$how" 2>&1 </dev/null) || return 1
  say reload "$how"
  # A signal is not answered: leave sshd the time to read its configuration again.
  [ -n "$reload" ] || sleep 1
}

same() { [ -f "$2" ] && [ "$(checksum <"$1")" = "$(checksum <"$2")" ]; }

put_back() {
  for name in $journal; do
    case $name in
      */) [ ! -d "$etc/$name" ] || rmdir "$etc/$name" || return 1 ;;
      *)
        if [ -f "$work/old/$name" ]; then
          # Nothing had come into its place: two names of one file, which mv refuses to move.
          mv -f "$work/old/$name" "$etc/$name" 2>/dev/null || same "$work/old/$name" "$etc/$name"
        else
          rm -f "$etc/$name"
        fi || return 1
        ;;
    esac
    if [ "$name" = sshd_config.d/10-jitgate.conf ] && [ ! -f "$dropin" ]; then
      # Somebody may have reloaded sshd in between: it has to forget the files before they go.
      reload_sshd || return 1
    fi
  done
}

finish() {
  status=$?
  trap - EXIT
  trap '' HUP INT TERM
  set +e
  if [ -n "$journal" ]; then
    say undo 'putting everything back'
    if ! put_back; then
      refuse "not everything could be put back: $(plain "${said-}")" "run --remove; what was there is in $work/old"
      exit 1
    fi
  fi
  if [ "$began" = yes ] && ! rm -rf "$work"; then
    refuse "$work could not be removed" 'the next run tries again'
    status=1
  fi
  exit "$status"
}

# --- the runs ---

trust() {
  read_sshd
  check_listeners
  check_own_files
  decide
  choose_reload
  if [ "$refused" = yes ]; then
    say done 'nothing was changed'
    exit 1
  fi
  compare
  [ "$mode" = check ] || begin
  if [ "$complete" = yes ] && [ -z "$changes$stale" ]; then
    prove
    say done 'all is in place: nothing to do'
  elif [ "$mode" = check ]; then
    for name in $changes; do say would "install $etc/$name"; done
    for name in $stale; do say would "remove $etc/$name"; done
    say would "reload sshd${how:+: $how}"
    say done 'nothing was changed'
  else
    install
    say done "certificates of realm $realm open $host as $logins; whatever opened it before still does"
  fi
}

remove() {
  check_own_files
  before=$(effective) || before=''
  check_listeners
  choose_reload
  [ "$refused" = no ] || exit 1
  begin
  if [ ! -d "$folder" ] && [ ! -f "$dropin" ]; then
    say done 'there is nothing of jitgate to undo'
    return
  fi
  if [ -f "$dropin" ]; then
    take sshd_config.d/10-jitgate.conf
    accepts "$config" || stop "sshd does not accept its configuration without it: $(plain "$said")" 'mend that first'
    journal=''
  fi
  reload_sshd || stop "sshd was not reloaded: $(plain "$said")" \
    "reload it and run --remove again: until then it may need $folder"
  if has "$known" 'made sshd_config.d' && [ -d "$dropins" ]; then
    rmdir "$dropins" 2>/dev/null || say note "$dropins stays: there are other files in it"
  fi
  if [ -d "$folder" ]; then mv "$folder" "$work/gone"; fi
  say remove "$folder"
  say done 'sshd is as it was before'
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
trap : PIPE # nobody reads on: no reason to stop halfway
if [ "$mode" = remove ]; then remove; else trust; fi
