from jitgate.cli.main import main

main()
