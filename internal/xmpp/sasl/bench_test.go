package sasl

import "testing"

// One exchange on the server: both messages parsed, the decoy made, the proof checked, the signature made.
func BenchmarkExchange(b *testing.B) {
	for _, name := range Mechanisms(true) {
		b.Run(name, func(b *testing.B) {
			config := testConfig(b, exporter())
			config.Rand = zeros{}
			c := julietClient(name)
			first := b64(c.header + c.bare)
			reply, err := mustServer(b, name, config).Next(first)
			if err != nil {
				b.Fatal(err)
			}
			message, _ := c.final(b, unb64(b, reply.Text))
			final := b64(message)
			b.ReportAllocs()
			for b.Loop() {
				s := mustServer(b, name, config)
				if _, err := s.Next(first); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Next(final); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Setting a password: PBKDF2 twice.
func BenchmarkNewCredentials(b *testing.B) {
	for b.Loop() {
		if _, err := NewCredentials("r0m30myr0m30", zeros{}); err != nil {
			b.Fatal(err)
		}
	}
}
