from plexrank.cli import main

main()
