package admin

import "fmt"

// Code says what kind of error it is, for programs.
type Code string

// The codes. CodeNotRunning and CodeBroken are found by the client itself.
const (
	CodeInvalid    Code = "invalid"     // a value in the request is not acceptable
	CodeNotFound   Code = "not-found"   // what the request names is not there
	CodeExists     Code = "exists"      // what should be made is there already
	CodeForbidden  Code = "forbidden"   // this user may not use the socket
	CodeBusy       Code = "busy"        // try again later
	CodeStarting   Code = "starting"    // the box does not serve yet; the client waits a while before it gives up
	CodePassword   Code = "password"    // the password of an account at another server is missing
	CodeFailed     Code = "failed"      // it could not be done; the text says why
	CodeUnknown    Code = "unknown"     // the daemon knows no such method
	CodeInternal   Code = "internal"    // a fault of ours; the log says more
	CodeNotRunning Code = "not-running" // nobody listens on the socket
	CodeRunning    Code = "running"     // another daemon has the socket
	CodeBroken     Code = "broken"      // the connection ended before the answer
)

// Error is an error that a person can do something about.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Next is what to do now, as a sentence; empty where there is nothing.
	Next string `json:"next,omitempty"`
	// Account is, with CodePassword, the address here of the account that is to come.
	Account string `json:"account,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Errorf returns an Error without a next step.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Then returns a copy of e that tells the next step.
func (e *Error) Then(format string, args ...any) *Error {
	c := *e
	c.Next = fmt.Sprintf(format, args...)
	return &c
}
