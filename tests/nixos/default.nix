# Systems in the forms that NixOS systems have, made of a Debian tree with
# systemd (tests/nixos/systemd-tree): what stage 1 and stage 2 say to each other
# is NixOS', what is started then is Debian's. Built without a sandbox.
{ tree, patchelf ? "/usr/bin/patchelf", erofs ? "/usr/bin/mkfs.erofs" }:
let
  system = builtins.currentSystem;
  sh = name: env: script: derivation ({
    inherit name system tree;
    builder = "/bin/sh";
    args = [ "-euc" "PATH=/usr/bin:/bin; ${script}" ];
  } // env);

  debian = sh "debian" { } ''
    mkdir $out; cp -a $tree/usr $out/usr
    chmod -R u+w $out
  '';

  # Its libraries are in the store, so that it starts in an empty root.
  systemd = sh "systemd-debian" { inherit debian patchelf; } ''
    mkdir -p $out/lib/systemd
    cp $tree/usr/lib/systemd/systemd $out/lib/systemd/
    lib=$debian/usr/lib/x86_64-linux-gnu
    chmod 755 $out/lib/systemd/systemd
    $patchelf --set-interpreter $lib/ld-linux-x86-64.so.2 --force-rpath --set-rpath $lib/systemd:$lib $out/lib/systemd/systemd
  '';

  etc = sh "etc" { report = ./report; } ''
    cp -a $tree/etc $out; chmod -R u+w $out
    : > $out/fstab; echo guest > $out/hostname
    cd $out/systemd/system; mkdir multi-user.target.wants
    ln -s /lib/systemd/system/multi-user.target default.target
    cp $report $out/report; chmod 755 $out/report
    printf '%s\n' '[Unit]' 'Description=Report of the test' '[Service]' 'ExecStart=/bin/sh /etc/report' \
      'StandardOutput=tty' 'TTYPath=/dev/console' > report.service
    ln -s ../report.service multi-user.target.wants/
    # Nobody logs in.
    for u in getty.target apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service; do ln -s /dev/null $u; done
  '';

  # What every kind of system has beside its init.
  common = ''
    mkdir $out
    echo test > $out/nixos-version
    echo "quiet test.parameter=1" > $out/kernel-params
    ln -s $systemd $out/systemd
    ln -s $etc $out/etc
  '';
  stage2 = ''
    sed -e "s|@top@|$out|g; s|@debian@|$debian|g; s|@etc@|$etc|g; s|@systemd@|$systemd|g" $template > $script
    chmod 755 $script
  '';
  env = { inherit debian systemd etc; template = ./stage2; };
  bootJSON = ''{"org.nixos.bootspec.v1":{"label":"test"},"org.nixos.nixos-init.v1":{"nix_store_mount_opts":["ro","nodev","nosuid"]}}'';
in
{
  A = sh "nixos-system-a" env ''
    ${common} script=$out/init; ${stage2}
    mkdir $out/specialisation; ln -s $out $out/specialisation/other
  '';
  # From before 2022: the variable is unknown.
  old = sh "nixos-system-old" env ''
    ${common} script=$out/init; ${stage2}
    sed -i s/IN_NIXOS_SYSTEMD_STAGE1/UNKNOWN/ $out/init
  '';
  B = sh "nixos-system-b" (env // { inherit bootJSON; }) ''
    ${common} script=$out/prepare-root; ${stage2}
    cp $systemd/lib/systemd/systemd $out/init
    echo "$bootJSON" > $out/boot.json
  '';
  # Nothing is run, so the directories that a NixOS does not need are mounts. They
  # have to outlive systemd's umount.target, which a NixOS, all of whose programs
  # are in the store, does not care about: the program that powers off is in them.
  C = sh "nixos-system-c" (env // { inherit erofs; }) ''
    ${common}
    cp $systemd/lib/systemd/systemd $out/init
    mkdir $out/etc-base
    cp -r $etc etc.c; chmod -R u+w etc.c
    for d in usr bin sbin lib lib64; do
      mkdir etc.c/systemd/system/$d.mount.d
      printf '[Unit]\nDefaultDependencies=no\n' > etc.c/systemd/system/$d.mount.d/stay.conf
    done
    $erofs -Enoinline_data $out/etc.erofs etc.c >/dev/null
    bind() { printf '{"mountpoint":"/%s","device":"%s","fstype":"none","options":["bind"]}' "$1" "$debian/$2"; }
    printf '{"org.nixos.bootspec.v1":{},"org.nixos.nixos-init.v1":{"nix_store_mount_opts":["ro","nodev","nosuid"],"etc_metadata_image":"%s","etc_basedir":"%s","special_filesystems":[%s,%s,%s,%s,%s]}}\n' \
      $out/etc.erofs $out/etc-base "$(bind usr usr)" "$(bind bin usr/bin)" "$(bind sbin usr/sbin)" "$(bind lib usr/lib)" "$(bind lib64 usr/lib64)" > $out/boot.json
  '';
  failing = sh "nixos-system-failing" (env // { inherit bootJSON; }) ''
    ${common} script=$out/prepare-root; ${stage2}
    sed -i '2i echo "cannot make users"; exit 3' $out/prepare-root
    cp $systemd/lib/systemd/systemd $out/init
    echo "$bootJSON" > $out/boot.json
  '';
}
